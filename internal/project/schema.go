package project

import (
	"encoding/json"
	"strings"

	"belfry/internal/job"
)

// shape is a JSON schema of a value (draft 7, which editors know).
type shape map[string]any

// Schema gives a JSON schema of belfry.yaml, for editors that complete and check
// as one types. It refuses nothing that Parse takes; what hangs together with
// something else, or is a matter of the machine, it leaves to Parse.
func Schema() []byte {
	file := keys("A project of belfry: its jobs, and the settings of the daemon that runs them.", map[string]shape{
		"project":  text("The project's name; default: the folder's.", name),
		"timezone": zone("Of schedules and dates, as Asia/Seoul; default: the machine's."),
		"defaults": {"$ref": "#/definitions/job", "description": "Any key of a job, for all of them; a job's own value wins."},
		"jobs": {
			"description": "The jobs, by name.", "type": "object", "minProperties": 1,
			"propertyNames": shape{"pattern": name}, "additionalProperties": shape{"$ref": "#/definitions/job"},
		},
		"hosts":  hostsShape(),
		"daemon": daemonShape(),
	})
	file["$schema"] = "http://json-schema.org/draft-07/schema#"
	file["title"] = FileName
	file["definitions"] = shape{"job": jobShape()}
	file["required"] = []string{"jobs"}
	file["if"] = shape{"properties": shape{"defaults": shape{"required": []string{"command"}}}, "required": []string{"defaults"}}
	file["else"] = shape{"properties": shape{"jobs": shape{"additionalProperties": shape{"required": []string{"command"}}}}}
	text, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		panic(err) // texts and numbers only
	}
	return append(text, '\n')
}

// How scalars are written. A number that stands in the file without quotes has no
// pattern.
const (
	name     = `^[a-z0-9_-][a-z0-9._-]{0,99}$`
	variable = `^(?!BELFRY_)[A-Za-z_][A-Za-z0-9_]*$`
	wait     = `(?!$)([0-9]+(\.[0-9]+)?d)?([0-9]+(\.[0-9]+)?h)?([0-9]+(\.[0-9]+)?m)?([0-9]+(\.[0-9]+)?s)?`
	amount   = `[0-9]{1,18}(KiB|MiB|GiB|TiB)?`
	schedule = `^\s*(@[A-Za-z]+|\S+(\s+\S+){4})\s*$`
	address  = `^(?!-)[^\x00-\x20\x7f"'` + "`" + `$;&|<>(){}]+$`
	target   = `^(s3://|(?!~)(?![A-Za-z][A-Za-z0-9+.-]*:))`
)

func jobShape() shape {
	limits := map[string]shape{}
	for _, resource := range job.Resources {
		switch resource {
		case "cpu_time":
			limits[resource] = span("Of the processor, not of the clock; or unlimited.", "unlimited")
		case "open_files", "processes":
			limits[resource] = number("How many; or unlimited.", 1, 1<<31-1, "unlimited")
		default:
			limits[resource] = size("In bytes, or with KiB, MiB, GiB, TiB; or unlimited.", "unlimited")
		}
	}
	return keys("A job: a command, when it runs, and by which rules.", map[string]shape{
		"schedule":        oneOrMore(described("Five fields or an @nickname, as in a crontab; or a list of them.", shape{"type": "string", "pattern": schedule})),
		"timezone":        zone("Of this job's schedules and dates."),
		"command":         either("Text goes through /bin/sh -c, in the file's folder; a list is executed as it is.", text("", `\S`), shape{"type": "array", "minItems": 1, "items": plain("")}),
		"dir":             plain("The command's folder; default: that of belfry.yaml."),
		"stdin":           plain("What the command reads; default: nothing."),
		"env":             named("Added to the environment; values may use $NAME.", `^(?!BELFRY_)[^= \t$]+$`, plain("")),
		"env_file":        plain("NAME=VALUE lines, read when an attempt starts; refused if others may read or write it."),
		"secrets":         oneOrMore(text("Variables from secrets.age (belfry secrets set), read when an attempt starts.", variable)),
		"python":          either("The command runs in a virtual environment with what the requirements file names.", plain(""), pythonShape()),
		"timeout":         duration("Then the job gets TERM, and KILL after kill_after; default: none."),
		"kill_after":      duration("How long after TERM a job gets KILL; default: 10s."),
		"catch_up":        oneOfThese("After downtime: the newest firing, all of them (100 at most), or none.", job.CatchUps),
		"catch_up_window": span("How old a firing may be to be caught up; default: 24h."),
		"start_within":    span("Of the firing; a later start is news (notify: late)."),
		"finish_by":       span("After the firing; a later end is news (notify: late)."),
		"overlap":         oneOfThese("What becomes of a firing while a run has not ended; replace ends that one.", job.Overlaps),
		"retry":           either("How often a failed run is tried, the first time included.", attempts(""), retryShape()),
		"pools":           oneOrMore(text("The job takes one place in each of these pools of the daemon while it runs.", name)),
		"after":           oneOrMore(text("The job runs when all of these have succeeded for the same date.", name)),
		"publish":         oneOrMore(either("Where the files in $BELFRY_OUTPUT are put when the job succeeds: s3://bucket/prefix/ or a folder.", text("", target), targetShape())),
		"notify":          notifyShape(),
		"umask":           {"description": "Of its processes, octal, as \"027\".", "type": []string{"string", "integer"}, "pattern": "^0*[0-7]{1,3}$", "minimum": 0, "maximum": 777},
		"nice":            number("Of its processes: -20 … 19.", -20, 19),
		"limits":          keys("Of each of its processes.", limits),
		"log_limit":       size("Of an attempt's output the first and the last half are kept; default: 64MiB; or none.", "none"),
	})
}

func pythonShape() shape {
	s := keys("", map[string]shape{
		"requirements": plain("The requirements file."),
		"version":      plain("Of the interpreter, as >=3.9,<3.14; default: python3."),
	})
	s["minProperties"] = 1
	return s
}

func retryShape() shape {
	return keys("", map[string]shape{
		"attempts":    attempts("In all."),
		"backoff":     duration("Before the second attempt; doubled each time; default: 1m."),
		"max_backoff": duration("The longest wait; default: 1h."),
		"on_exit":     oneOrMore(number("Only after these exit codes; default: after any failure.", 1, 255)),
	})
}

func notifyShape() shape {
	return keys("Who is told of what.", map[string]shape{
		"to": oneOrMore(text("Addresses, as mailto:me@example.com; default: the mailbox of the user.", "^mailto:.")),
		"on": oneOrMore(oneOfThese("Default: failure, recovery and late.", job.Events)),
	})
}

func targetShape() shape {
	s := keys("", map[string]shape{
		"to":            text("s3://bucket/prefix/ or a folder; may hold $BELFRY_DATE and the like.", target),
		"from":          plain("A folder of the output; default: all of it."),
		"mode":          oneOfThese("What becomes of what is there; default: it is replaced, and no two firings may share the target.", job.Modes),
		"parallel":      number("Files, or parts of large ones, on their way at once.", 1, job.MaxParallel),
		"part_size":     size("On S3: of the parts of a file that is larger; default: 8MiB."),
		"storage_class": text("On S3, as STANDARD_IA; default: the bucket's.", "^[A-Z][A-Z0-9_]*$"),
		"sse":           oneOfThese("On S3: how it is encrypted; default: the bucket's.", job.Encryptions),
		"kms_key":       plain("On S3: id or ARN of the key."),
		"metadata":      named("On S3, of each file; values may use $NAME.", "^[a-z0-9][a-z0-9_-]*$", plain("")),
		"path_style":    {"description": "On S3: the bucket in the path of the address.", "enum": []any{true, false, "true", "false"}},
		"if_empty":      oneOfThese("What it means to leave nothing (for the whole job); default: error.", job.IfEmpties),
	})
	s["required"] = []string{"to"}
	return s
}

func hostsShape() shape {
	const description = "As typed otherwise: [USER@]HOST[:PORT]; HOST may be an alias of ~/.ssh/config."
	host := keys("", map[string]shape{
		"address":     text(description, address),
		"identity":    text("The private key, as -i: a path from the project's folder, or one that begins with ~/.", "."),
		"aws_profile": text("The profile of ~/.aws that the host is given, as --aws-profile.", "."),
	})
	host["required"] = []string{"address"}
	hostName := "^(?!-|(" + strings.Join(commands, "|") + ")$)" + strings.TrimPrefix(name, "^")
	return named("Machines that the project may be put on, by name, for belfry deploy and -H.", hostName, either("", text(description, address), host))
}

func daemonShape() shape {
	return keys("Settings of the daemon that serves the project.", map[string]shape{
		"slots": places("Attempts at once; default: 4 for each CPU."),
		"pools": named("Pools that jobs take places in, by name, with their sizes.", name, places("")),
		"retention": keys("How long the account of runs that have ended is kept.", map[string]shape{
			"age":        span("Of runs; default: 90d; or forever.", "forever"),
			"failed_age": span("Of runs that failed or were lost; not shorter than age; default: 365d; or forever.", "forever"),
			"runs":       {"description": "Of each job at most; default: any number.", "type": []string{"integer", "string"}, "minimum": 1, "pattern": "^[0-9]+$"},
		}),
		"publish_patience": span("How long a publish is tried that fails for what may go by itself; default: 24h."),
		"listen":           described("Where anyone may ask whether the daemon is well, as 127.0.0.1:8080; default: nowhere.", shape{"type": "string", "pattern": ":[0-9]+$"}),
		"mail":             keys("How mail is delivered.", map[string]shape{"spool": plain("The folder of mailboxes.")}),
	})
}

// keys is a mapping with these keys and no others.
func keys(description string, of map[string]shape) shape {
	return described(description, shape{"type": "object", "properties": of, "additionalProperties": false})
}

// named is a mapping with names of one's own.
func named(description, names string, value shape) shape {
	return described(description, shape{"type": "object", "propertyNames": shape{"pattern": names}, "additionalProperties": value})
}

func described(description string, s shape) shape {
	if description != "" {
		s["description"] = description
	}
	return s
}

// plain is a text; YAML may take it for a number, or for true or false.
func plain(description string) shape {
	return described(description, shape{"type": []string{"string", "number", "boolean"}})
}

func text(description, pattern string) shape {
	s := plain(description)
	s["pattern"] = pattern
	return s
}

func zone(description string) shape {
	return described(description, shape{"type": "string", "minLength": 1})
}

// duration is 90s, 30m, 1h30m, 2d or 0.
func duration(description string) shape {
	return described(description, shape{"type": []string{"string", "integer"}, "pattern": "^(0|" + wait + ")$", "minimum": 0, "maximum": 0})
}

// span is a duration that is not 0, or one of words.
func span(description string, words ...string) shape {
	return described(description, shape{"type": "string", "pattern": "^(" + orWords(wait, words) + ")$"})
}

func size(description string, words ...string) shape {
	return described(description, shape{"type": []string{"string", "integer"}, "pattern": "^(" + orWords(amount, words) + ")$", "minimum": 0})
}

func number(description string, from, to int, words ...string) shape {
	return described(description, shape{"type": []string{"integer", "string"}, "minimum": from, "maximum": to, "pattern": "^(" + orWords("[+-]?[0-9]+", words) + ")$"})
}

func attempts(description string) shape { return number(description, 1, 100) }

func places(description string) shape { return number(description, 1, 100000) }

func orWords(pattern string, words []string) string {
	for _, word := range words {
		pattern += "|" + word
	}
	return pattern
}

func oneOfThese[T ~string](description string, words []T) shape {
	return described(description, shape{"enum": words})
}

// oneOrMore is a value or a list of such.
func oneOrMore(value shape) shape {
	return shape{"description": value["description"], "anyOf": []shape{value, {"type": "array", "items": value}}}
}

func either(description string, a, b shape) shape {
	return shape{"description": description, "anyOf": []shape{a, b}}
}
