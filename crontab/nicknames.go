package crontab

// Nicknames are exact and lower case, as they are to cronie. Their stars are cronie's too, and they are not those of
// the five fields that one would write instead: @daily has none, which keeps it fixed where clocks change (as 0 0 * * *
// is), and @hourly has the hour's alone.
var nicknames = map[string]Schedule{
	"@reboot":   {flags: reboot, text: "@reboot"},
	"@yearly":   nickname("@yearly", 1<<0, 1<<1, 1<<1, dowField.full(), dowStar),
	"@annually": nickname("@annually", 1<<0, 1<<1, 1<<1, dowField.full(), dowStar),
	"@monthly":  nickname("@monthly", 1<<0, 1<<1, monthField.full(), dowField.full(), dowStar),
	"@weekly":   nickname("@weekly", 1<<0, domField.full(), monthField.full(), 1<<0, domStar),
	"@daily":    nickname("@daily", 1<<0, domField.full(), monthField.full(), dowField.full(), 0),
	"@midnight": nickname("@midnight", 1<<0, domField.full(), monthField.full(), dowField.full(), 0),
	"@hourly":   nickname("@hourly", hourField.full(), domField.full(), monthField.full(), dowField.full(), hourStar),
}

func nickname(text string, hour, dom, month, dow set, star flags) Schedule {
	return Schedule{minute: 1 << 0, hour: uint32(hour), dom: uint32(dom), month: uint16(month), dow: uint8(dow), flags: star, text: text}
}
