package crontab_test

import (
	"fmt"

	"belfry/crontab"
)

func ExampleLint() {
	src := "MAILTO=ops@example.com\nCRON_TZ=Asia/Seoul\n*/7 * * * * /srv/poll\n0 6 1-7 * * python3 report.py\n"
	for _, f := range crontab.Lint("ops", []byte(src), crontab.LintOptions{}) {
		fmt.Println(f)
		fmt.Println("  " + f.Fix)
	}
	// Output:
	// ops:3:1: uneven-step: "*/7" in the minute field fires at 00, 07 … 56 and then at 00 again: after 4 minutes, not 7
	//   write a step that divides 60, such as "*/6", or list the minutes
	// ops:4:21: relative-path: "report.py" is looked for in its user's home directory, where cron starts a command, and not in the directory that it was tried in
	//   write the whole path, or begin the command with cd /the/directory &&
}
