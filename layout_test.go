package adamant

import (
	"cmp"
	"errors"
	"go/build"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/adamant-go/adamant"

// arrow is what a package may import: of this module, and of other people's.
// Besides these there is the standard library, less what is in never. Tests may
// import more.
type arrow struct{ may, others, never string }

const telemetry = "go.opentelemetry.io/..."

// arrows point down: a package is drawn before it is written. A name that ends
// in /... stands for all packages under it.
var arrows = map[string]arrow{
	".": {},

	"retry":       {never: "net net/http log log/slog"},
	"retryhttp":   {may: "retry", never: "log log/slog"},
	"otelretry":   {may: "retry retryhttp", others: telemetry},
	"blueapi":     {may: "retry retryhttp internal/stomp", others: "github.com/coder/websocket", never: "log log/slog"},
	"blueapi/sim": {may: "blueapi internal/memnet internal/stomp", others: "github.com/coder/websocket"},
	"gateway":     {may: "retry retryhttp blueapi internal/stomp", others: "github.com/coder/websocket"},

	"internal/config":  {others: "go.yaml.in/yaml/v3", never: "net/http"},
	"internal/journal": {others: "modernc.org/sqlite modernc.org/sqlite/lib"},
	"internal/memnet":  {},
	"internal/oidc":    {},
	"internal/stomp":   {},
	"internal/storm":   {may: "retry"},

	"cmd/adamant": {
		may: "gateway blueapi blueapi/sim otelretry retry " +
			"internal/config internal/journal internal/memnet internal/oidc internal/stomp internal/storm",
		others: "github.com/spf13/cobra github.com/spf13/pflag go.yaml.in/yaml/v3 golang.org/x/term golang.org/x/net/netutil github.com/coreos/go-systemd/v22/daemon golang.org/x/sys/... github.com/coder/websocket " +
			"github.com/prometheus/client_golang/... github.com/go-logr/logr " + telemetry,
	},

	"test/realserver":            {},
	"test/realserver/faultproxy": {},
}

// TestArrows reads the tree itself: a test that ran "go list" would be cached,
// and stay green when another package changes.
func TestArrows(t *testing.T) {
	err := filepath.WalkDir(".", func(dir string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if name := d.Name(); dir != "." && (name == "testdata" || strings.HasPrefix(name, ".") || isModule(dir)) {
			return fs.SkipDir
		}
		pkg, err := build.ImportDir(dir, 0)
		if _, none := errors.AsType[*build.NoGoError](err); none {
			return nil
		} else if err != nil {
			return err
		}
		name := filepath.ToSlash(dir)
		rule, drawn := arrows[name]
		if !drawn {
			t.Errorf("%s: draw its arrows in layout_test.go first", name)
			return nil
		}
		if pkg.Doc == "" && len(pkg.GoFiles) > 0 {
			t.Errorf("%s: no package comment", name)
		}
		for _, imp := range pkg.Imports {
			if why := rule.forbids(imp); why != "" {
				t.Errorf("%s imports %s, which %s", name, imp, why)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (a arrow) forbids(imp string) string {
	if listed(a.never, imp) {
		return "it must never do: see its arrow in layout_test.go"
	}
	if own, ok := strings.CutPrefix(imp, module+"/"); ok {
		if !listed(a.may, own) {
			return "is no arrow of layout_test.go"
		}
		return ""
	}
	host, _, _ := strings.Cut(imp, "/")
	if strings.Contains(host, ".") && !listed(a.others, imp) { // else the standard library's
		return "is not among the dependencies that layout_test.go allows it"
	}
	return ""
}

func listed(list, path string) bool {
	return slices.ContainsFunc(strings.Fields(list), func(entry string) bool {
		under, all := strings.CutSuffix(entry, "/...")
		return path == under || all && strings.HasPrefix(path, under+"/")
	})
}

// isModule reports whether dir belongs to a module of its own, whose
// dependencies burden no user.
func isModule(dir string) bool {
	found, err := filepath.Glob(filepath.Join(dir, "go.mod"))
	return err == nil && len(found) > 0
}

// TestArrowsPointDown fails if the arrows themselves make a circle, or lead to a
// package that is not drawn.
func TestArrowsPointDown(t *testing.T) {
	var visit func(name string, path []string)
	visit = func(name string, path []string) {
		if slices.Contains(path, name) {
			t.Fatalf("a circle: %s", strings.Join(append(path, name), " -> "))
		}
		for next := range strings.FieldsSeq(arrows[name].may) {
			if _, drawn := arrows[next]; !drawn {
				t.Errorf("%s -> %s is not drawn", name, next)
			}
			visit(next, append(slices.Clone(path), name))
		}
	}
	for name := range arrows {
		visit(name, nil)
	}
}

func TestForbids(t *testing.T) {
	a := arrow{may: "retry", others: "example.org/a example.org/b/...", never: "log"}
	for imp, allowed := range map[string]bool{
		"net/http":               true,
		"log":                    false,
		"log/slog":               true,
		module + "/retry":        true,
		module + "/retryhttp":    false,
		module + "/retry/budget": false,
		"example.org/a":          true,
		"example.org/a/sub":      false,
		"example.org/b":          true,
		"example.org/b/sub":      true,
		"example.org/bb":         false,
	} {
		if why := a.forbids(imp); (why == "") != allowed {
			t.Errorf("%s: %s", imp, cmp.Or(why, "allowed"))
		}
	}
}
