package project
import ("testing";"time";"fmt";"strings")
func TestZZ(t *testing.T){
 for _, s := range []string{"", "# only\n", "~", "---\n", "jobs:\n\ta: b\n", "jobs: {a: {command: x}, a: {command: y}}\n", "jobs:\n  a: {command: x}\n---\njobs: {}\n", "\xff\xfe\x00", "a: [1,2\nb: 3", "jobs: {a: {command: x, command: y}}", "foo", "- a", "jobs:\n  a: &x {command: x}\n  b: {<<: *x}\n", "jobs:\n  a: {command: *nope}\n","jobs:\n  가나: {command: x, shedule: '0 25 * * *'}\n", strings.Repeat("[", 20000), "a: "+strings.Repeat("{a: ", 20000), "jobs: &j {a: *j}", "jobs:\n  a:\n    schedule: \"0 25 * * *\"\n    command: x\n    schedule: |\n       0 25 * * *\n", "jobs:\n  # 한글\n  \"가\": {}\n  a: {env: {\"한글 값\": 1, b: {}}}\n", "jobs: {a: {command: x}}\n\x00", "? [a, b]\n: c\n", "jobs: {a: {command: x, daemon: {slots: 3}}}\ndaemon: 3\ndefaults: foo\n", "daemon: {slots: x, mail: 3}\n", "project: a: b"} {
  func(){ defer func(){ if r:=recover(); r!=nil {fmt.Println("PANIC", r)} }()
  p, err := Parse([]byte(s), "/x/y/belfry.yaml", Defaults{Zone: time.UTC})
  if len(s)>60 {s=s[:60]}
  e := fmt.Sprint(err); if len(e)>600 {e=e[:600]}
  fmt.Printf("--- %q\n%v %s\n", s, p!=nil, e) }()
 }
 for _, w := range strings.Fields("shedule comand retries cron user cwd dir shell description depends_on working_directory interval on_failure retry_count max_retries environment stdin args run script enabled image tags when at time every tz timezome kilafter kill-after env-file envfile cmd notifiy notification pubish output name Command catchup overlaps") {
  fmt.Println(w, suggestion(w, (&parser{}).jobKeys(nil)))
 }
}
