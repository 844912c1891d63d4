package job

import "testing"

func TestWhatCannotBeMeantAsATargetIsToldWithWhatWouldBeRight(t *testing.T) {
	t.Parallel()
	for to, want := range map[string]string{
		"s3://lake/x/dt=$BELFRY_DATE/": "",
		"lake/dt=$BELFRY_DATE":         "",
		"/srv/lake":                    "",
		"../lake":                      "",
		"$LAKE/x":                      "",
		"${LAKE}:x":                    "",
		"./a:b":                        "",
		"lake/12:00":                   "",
		"dt=$BELFRY_DATE:x":            "",
		"12:00/x":                      "",
		"":                             "publish needs a target: a folder or s3://bucket/prefix/",
		"s3:/lake/x":                   `"s3:/lake/x" is no place on S3; write "s3://lake/x"`,
		"s3:lake":                      `"s3:lake" is no place on S3; write "s3://lake"`,
		"S3://lake/x":                  `"S3://lake/x" is no place on S3; write "s3://lake/x"`,
		"s3a://lake/x":                 `"s3a://lake/x" is no place on S3; write "s3://lake/x"`,
		"file:///srv/lake":             `"file:///srv/lake" is written as a folder: "/srv/lake"`,
		"gs://lake/x":                  `"gs://lake/x": belfry publishes to folders and to S3, not to gs://; a store that speaks S3 is s3://bucket/prefix/, with its address in AWS_ENDPOINT_URL_S3`,
		"out:2026/":                    `"out:2026/" is no place that belfry knows; if a folder is called that, write "./out:2026/"`,
		"file:lake":                    `"file:lake" is no place that belfry knows; if a folder is called that, write "./file:lake"`,
		"~/lake":                       `"~/lake": only a shell knows what ~ is; write "$HOME/lake"`,
		"~":                            `"~": only a shell knows what ~ is; write "$HOME"`,
		"~alice/lake":                  `"~alice/lake": only a shell knows whose folder ~alice is; write the folder from / on, or "./~alice/lake" if it is called that`,
	} {
		got := ""
		if err := CheckTarget(to); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q\n got %s\nwant %s", to, got, want)
		}
	}
}
