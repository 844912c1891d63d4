module belfry/bench

go 1.26.0

replace belfry => ../

require (
	belfry v0.0.0-00010101000000-000000000000
	github.com/adhocore/gronx v1.20.4
	github.com/netresearch/go-cron v0.9.1
	github.com/robfig/cron/v3 v3.0.1
)
