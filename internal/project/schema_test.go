package project

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"belfry/internal/machine"
)

func TestTheSchemaHasTheKeysThatTheParserKnows(t *testing.T) {
	t.Parallel()
	var schema map[string]any
	if err := json.Unmarshal(Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	const job = "definitions/job/properties"
	for path, text := range map[string]string{
		"properties":                       "¿: 1",
		job:                                "jobs: {a: {¿: 1}}",
		job + "/python/anyOf/1/properties": "jobs: {a: {python: {¿: 1}}}",
		job + "/retry/anyOf/1/properties":  "jobs: {a: {retry: {¿: 1}}}",
		job + "/publish/anyOf/0/anyOf/1/properties":                "jobs: {a: {publish: {¿: 1}}}",
		job + "/notify/properties":                                 "jobs: {a: {notify: {¿: 1}}}",
		job + "/limits/properties":                                 "jobs: {a: {limits: {¿: 1}}}",
		"properties/hosts/additionalProperties/anyOf/1/properties": "hosts: {a: {¿: 1}}",
		"properties/daemon/properties":                             "daemon: {¿: 1}",
		"properties/daemon/properties/retention/properties":        "daemon: {retention: {¿: 1}}",
		"properties/daemon/properties/mail/properties":             "daemon: {mail: {¿: 1}}",
	} {
		_, err := parse(t, text)
		if err == nil {
			t.Errorf("%s is read", text)
			continue
		}
		_, list, _ := strings.Cut(err.Error(), "; there are ")
		list, _, _ = strings.Cut(list, "\n")
		known := strings.Split(list, ", ")
		slices.Sort(known)
		at := any(schema)
		for part := range strings.SplitSeq(path, "/") {
			switch v := at.(type) {
			case map[string]any:
				at = v[part]
			case []any:
				at = v[part[0]-'0']
			}
		}
		properties, _ := at.(map[string]any)
		if got := slices.Sorted(maps.Keys(properties)); !slices.Equal(got, known) {
			t.Errorf("%s\n in the schema %s\nof the parser %s", path, got, known)
		}
		for key, of := range properties {
			if of, _ := of.(map[string]any); of["description"] == nil && of["$ref"] == nil {
				t.Errorf("%s/%s has no description", path, key)
			}
		}
	}
}

// validator reads [schema, [document, …]] and says of each what is wrong with it.
const validator = `
import json, sys
from jsonschema import Draft7Validator
schema, documents = json.load(sys.stdin)
Draft7Validator.check_schema(schema)
v = Draft7Validator(schema)
json.dump(["; ".join(f"{e.json_path}: {e.message}" for e in v.iter_errors(d)) for d in documents], sys.stdout)
`

func TestTheSchemaAndTheParserAgree(t *testing.T) {
	t.Parallel()
	if out, err := exec.Command("/usr/bin/python3", "-c", "import jsonschema").CombinedOutput(); err != nil {
		machine.Lacks(t, "jsonschema (Debian's package python3-jsonschema): %s", out)
	}
	example, err := os.ReadFile(filepath.Join("..", "..", "docs", FileName))
	if err != nil {
		t.Fatal(err)
	}
	taken := []string{
		string(example), // it has every key
		fmt.Sprintf(Init, "Asia/Seoul"),
		"defaults: {command: x}\njobs: {a: {}}",
	}
	for _, keys := range []string{
		`schedule: ["0 1 * * *", "@daily"]`, `schedule: "@reboot"`, `schedule: []`, `schedule: " 0  1 * * mon-fri "`,
		`timezone: UTC`, `command: [python3, 1, true]`, `command: true`, `dir: /srv`, `stdin: ""`, `env: {A: 1, B: yes, C: 1.5, D: ""}`,
		`env_file: .env`, `secrets: A_TOKEN`, `secrets: [A, B]`, `timeout: 0`, `timeout: "0"`, `timeout: 1.5h`, `kill_after: 1d2h3m4s`,
		`catch_up: all`, `catch_up_window: 2d`, `start_within: 10m`, `finish_by: 2h`, `overlap: replace`, `retry: 3`, `retry: "3"`,
		`retry: {}`, `retry: {attempts: 100, backoff: 0, max_backoff: 1h, on_exit: 75}`, `retry: {on_exit: [1, "2"]}`,
		`after: b`, `after: [b]`, `publish: out/`, `publish: []`, `publish: [a, {to: b}]`, `publish: $LAKE/x`, `publish: ./a:b/`, `publish: dt=$BELFRY_DATE/12:00`,
		`publish: {to: "s3://b/", parallel: 64, part_size: 5GiB, storage_class: A_1, sse: AES256, metadata: {a-1: 2}, path_style: false, if_empty: ok, mode: append}`,
		`publish: {to: "s3://b/", part_size: 8388608, path_style: "true", kms_key: 1}`,
		`notify: {to: "mailto:me", on: []}`, `notify: {on: output}`, `umask: "0027"`, `umask: 22`, `nice: -20`, `nice: "19"`,
		`limits: {open_files: unlimited, processes: 1, file_size: 1TiB, core_size: 0, cpu_time: unlimited, memory: 1, stack: "8388608"}`,
		`log_limit: none`, `log_limit: 65536`, `python: {version: 3.11}`,
	} {
		taken = append(taken, "jobs:\n  a: {command: x, "+keys+"}\n  b: {command: x}")
		if strings.HasPrefix(keys, "command") {
			taken[len(taken)-1] = "jobs: {a: {" + keys + "}}"
		}
	}
	for _, keys := range []string{
		`slots: 1`, `slots: "100000"`, `pools: {api.v1: 2, "7": 1}`, `retention: {age: forever, runs: 1}`, `retention: {age: 30d, failed_age: forever}`,
		`listen: ":0"`, `listen: "[::1]:8080"`, `publish_patience: 90s`, `mail: {spool: mail}`, `mail: {}`,
	} {
		taken = append(taken, "jobs: {a: {command: x}}\ndaemon: {"+keys+"}")
	}
	for _, hosts := range []string{
		`{}`, `{prod: me@music}`, `{"7": 10, a.b: "[::1]:22", _c: 'DOM\me@music'}`, `{prod: {address: music:22, identity: ~/.ssh/k, aws_profile: 1}}`,
	} {
		taken = append(taken, "hosts: "+hosts+"\njobs: {a: {command: x}}")
	}
	refused := []string{
		"jobs: {}", "jobs: [a]", "timezone: UTC", "jobs: {a: {}}", "jobs: {a: }", "jobs: {Top Tracks: {command: x}}", "jobs: {.a: {command: x}}",
		"defaults: {timeout: 1m}\njobs: {a: {schedule: '@daily'}}", "defaults: {timeout: soon}\njobs: {a: {command: x}}",
		"projekt: x\njobs: {a: {command: x}}", "project: X\njobs: {a: {command: x}}", "timezone: \njobs: {a: {command: x}}",
		`jobs: {a: {command: ""}}`, `jobs: {a: {command: []}}`, `jobs: {a: {command: {}}}`, `jobs: {a: {command: [[x]]}}`,
	}
	for _, keys := range []string{
		`shedule: "0 1 * * *"`, `schedule: "0 1 * *"`, `schedule: 5`, `env: [A]`, `env: {A=B: 1}`, `env: {BELFRY_DATE: 1}`, `env: {A: [1]}`, `env: {A: }`,
		`secrets: [a-b]`, `secrets: BELFRY_RUN`, `secrets: {A: x}`, `timeout: 30`, `timeout: -5s`, `timeout: ""`, `timeout: 5s1m`, `catch_up: some`,
		`catch_up_window: 0`, `start_within: soon`, `overlap: kill`, `retry: 0`, `retry: 101`, `retry: many`, `retry: {atempts: 3}`, `retry: {on_exit: [0]}`, `retry: [3]`,
		`pools: [GPU]`, `after: [B]`, `publish: s3:/b/x`, `publish: S3://b/x`, `publish: ~/x`, `publish: "gs://b/x"`, `publish: "file:///x"`, `publish: {from: x}`,
		`publish: {to: a, mode: add}`, `publish: {to: "s3://d/", parallel: 0}`, `publish: {to: "s3://d/", storage_class: cold}`, `publish: {to: "s3://d/", sse: AES}`,
		`publish: {to: "s3://d/", metadata: {Team: x}}`, `publish: {to: "s3://d/", path_style: yes}`, `publish: {to: a, if_empty: maybe}`,
		`notify: {to: me@example.com}`, `notify: {on: tardy}`, `notify: me`, `umask: "888"`, `nice: -21`, `nice: low`, `limits: {stak: 8MiB}`, `limits: {open_files: 0}`,
		`limits: {memory: lots}`, `limits: {cpu_time: 0}`, `log_limit: 64MB`, `python: [requests]`, `python: {}`, `python: {packages: x}`,
	} {
		refused = append(refused, "jobs:\n  a: {command: x, "+keys+"}\n  b: {command: x}")
	}
	for _, keys := range []string{
		`slots: 0`, `slots: none`, `pools: [api]`, `pools: {GPU: 1}`, `pools: {api: 0}`, `retention: {age: 0}`, `retention: {runs: 0}`, `retention: {keep: 1}`,
		`listen: 8080`, `listen: localhost`, `publish_patience: 0`, `mail: spool`, `mail: {dir: x}`, `port: 1`,
	} {
		refused = append(refused, "jobs: {a: {command: x}}\ndaemon: {"+keys+"}")
	}

	for _, hosts := range []string{
		``, `music`, `[music]`, `{prod: }`, `{prod: ""}`, `{prod: []}`, `{prod: {}}`, `{prod: {identity: k}}`, `{prod: {address: }}`, `{prod: {address: a, port: 22}}`,
		`{prod: {address: a, identity: ""}}`, `{prod: {address: a, aws_profile: ""}}`, `{prod: {address: a, identity: [k]}}`, `{Prod: music}`, `{-p: music}`, `{status: music}`,
		`{prod: -oX}`, `{prod: "-oX@music"}`, `{prod: "me@a b"}`, `{prod: "me@a\nb"}`, `{prod: "me@$(id)"}`,
	} {
		refused = append(refused, "hosts: "+hosts+"\njobs: {a: {command: x}}")
	}

	var documents []any
	for _, text := range slices.Concat(taken, refused) {
		var document any
		if err := yaml.Load([]byte(text), &document); err != nil {
			t.Fatalf("%s\n%v", text, err)
		}
		documents = append(documents, document)
	}
	question, err := json.Marshal([]any{json.RawMessage(Schema()), documents})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/usr/bin/python3", "-c", validator)
	cmd.Stdin, cmd.Stderr = strings.NewReader(string(question)), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("validate: %v", err)
	}
	var problems []string
	if err := json.Unmarshal(out, &problems); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "requirements.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for i, text := range slices.Concat(taken, refused) {
		_, err := Parse([]byte(text), filepath.Join(dir, FileName), defaults(t))
		if want := i < len(taken); (err == nil) != want || (problems[i] == "") != want {
			t.Errorf("%s\nis to be taken: %v\nthe parser says %v\nthe schema %s", text, want, err, problems[i])
		}
	}
}
