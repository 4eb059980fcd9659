package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse/configs"
)

// What the pages show as tenant documents and as process configurations is
// accepted as it stands, but for the files that it names.
func TestPagesShowWhatIsAccepted(t *testing.T) {
	engine, err := newEngine(nil)
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]int{}
	check := func(page, block string) {
		name := filepath.Join(t.TempDir(), "shown.yaml")
		write(t, name, block)
		var problems configs.Problems
		switch key := firstKey.FindStringSubmatch(block); {
		case key == nil:
			return
		case key[1] == "tenants" || key[1] == "plans":
			shown["documents"]++
			_, problems = checkDocuments(engine, name)
		case processKeys.MatchString(key[1]) && !strings.Contains(block, "rules:"): // else the limits of a tenant
			shown["configurations"]++
			cfg, text, err := parseConfig(name)
			if err != nil {
				t.Errorf("%s:\n%s\n%v", page, block, err)
				return
			}
			problems = text.Locate(cfg.validate())
		}
		for _, p := range problems.Errors() {
			if !strings.Contains(p.Reason, "cannot be read") && !strings.HasPrefix(p.Reason, "plan ") {
				t.Errorf("%s:\n%s", page, p)
			}
		}
	}
	err = filepath.WalkDir("../../docs", func(page string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(page) != ".md" {
			return err
		}
		source, err := os.ReadFile(page)
		for _, b := range blockOfYAML.FindAllStringSubmatch(string(source), -1) {
			check(page, strings.ReplaceAll("\n"+b[2], "\n"+b[1], "\n"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if shown["documents"] < 10 || shown["configurations"] < 5 {
		t.Errorf("the pages show %v", shown)
	}
}

var (
	blockOfYAML = regexp.MustCompile("(?ms)^( *)```yaml\n(.*?)^ *```")
	firstKey    = regexp.MustCompile(`(?m)\A(?:\s*#.*\n|\s*\n)*([a-z_]+):`)
	processKeys = regexp.MustCompile(`^(data|roles|proxy|control|store|limits|metering|memory|log)$`)
)
