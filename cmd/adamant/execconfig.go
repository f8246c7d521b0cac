package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/adamant-go/adamant/internal/config"
)

// pointing is what in a command's arguments and environment tells it where its server
// is.
type pointing struct {
	argv  []string
	files []configArg // in argv
	env   []configArg // of BLUEAPI_CONFIG, in its order
	hosts []hostArg   // of a command like blueapi
	// like tells that the command takes blueapi's options.
	like bool
}

// configArg is an argument that names one of blueapi's configuration files.
type configArg struct {
	at     int    // in argv, or among the files of the variable
	option string // that the path is joined to: -c, --config=
	path   string
	file   *config.File // nil if it is none of blueapi's, or not there
}

// hostArg is an argument that names a server.
type hostArg struct {
	at          int
	option, url string
}

const configVariable = "BLUEAPI_CONFIG"

// readPointing looks for what tells a command where its server is. Files that are not
// blueapi's, or not there, are the command's business.
func readPointing(argv []string) *pointing {
	p := &pointing{argv: argv}
	begin := slices.IndexFunc(argv, isBlueapiProgram)
	p.like = begin >= 0
	for i := 1; i < len(argv); i++ {
		if option, value, at := optionAt(argv, i, "-c", "--config"); at > 0 {
			if file, err := config.ReadFile(value); err == nil {
				p.files = append(p.files, configArg{at, option, value, file})
			}
		}
		if !p.like || i < begin {
			continue
		}
		if option, value, at := optionAt(argv, i, "-h", "--host"); at > 0 && isURL(value) {
			p.hosts = append(p.hosts, hostArg{at, option, value})
		}
	}
	for i, path := range strings.Fields(os.Getenv(configVariable)) {
		file, err := config.ReadFile(path)
		if err != nil {
			file = nil
		}
		p.env = append(p.env, configArg{at: i, path: path, file: file})
	}
	return p
}

// isBlueapiProgram tells by its name a program that takes blueapi's options; blueapi as
// a module of Python has it too.
func isBlueapiProgram(arg string) bool {
	name := strings.TrimSuffix(filepath.Base(arg), ".exe")
	return name == "blueapi" || name == "adamant"
}

// optionAt returns the value of an option that is at argv[i], in which argument that is,
// and what it is joined to. at is 0 if it is another argument.
func optionAt(argv []string, i int, short, long string) (joined, value string, at int) {
	arg := argv[i]
	switch {
	case (arg == short || arg == long) && i+1 < len(argv):
		return "", argv[i+1], i + 1
	case strings.HasPrefix(arg, long+"="):
		return long + "=", arg[len(long)+1:], i
	case strings.HasPrefix(arg, short) && len(arg) > len(short):
		return short, arg[len(short):], i
	}
	return "", "", 0
}

func isURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

// named is a server, and who names it.
type named struct{ by, url string }

// server finds out which server the command is for. What is given to adamant by an
// option stands over what the command's files say; anything else must agree, for one
// gateway is in front of one server.
func (p *pointing) server(a *app, cmd *cobra.Command) (config.Config, error) {
	host, files := cmd.Flag("host"), cmd.Flag("config")
	ownHost := a.host != "" && setBy(host) == ""
	ownFiles := len(a.configs) > 0 && setBy(files) == ""

	sources := p.sources()
	if ownFiles { // which may leave the broker to the command's: what that hears must come from the gateway
		sources = slices.Concat(sources, a.configs)
	}
	c, err := config.Load(a.host, sources...)
	if err != nil && ownFiles {
		c, err = config.Load(a.host, a.configs...)
	}
	if err != nil && (ownFiles || len(sources) == 0) {
		return c, err
	}
	if err != nil {
		// The command will say so of its own file, in its own words.
		p.files, p.env, sources = nil, nil, nil
		if c, err = config.Load(a.host); err != nil {
			return c, err
		}
	}
	switch {
	case ownHost && len(p.hosts) == 0:
		return c, nil
	case a.host == "" && !ownFiles && len(sources) == 0 && len(p.hosts) == 0:
		return c, nil // the default
	}
	var all []named
	switch {
	case ownHost:
		all = append(all, named{"the option -h of adamant", a.host})
	case ownFiles:
		all = append(all, named{"the option -c of adamant", c.URL})
	}
	all = append(all, p.named(a, ownHost)...)
	if len(all) > 0 {
		for _, other := range all[1:] {
			if serverURL(other.url) != serverURL(all[0].url) {
				return c, usageError{cmd, fmt.Sprintf("%s names %s, and %s names %s: which one is it? Say so by -h before exec.",
					all[0].by, redacted(all[0].url), other.by, redacted(other.url))}
			}
		}
		c.URL = all[0].url
	}
	return c, nil
}

// sources are the files that the command reads as one, as far as they are there.
func (p *pointing) sources() (paths []string) {
	args := p.files
	if len(args) == 0 {
		args = p.env
	}
	for _, f := range args {
		if f.file != nil {
			paths = append(paths, f.path)
		}
	}
	return paths
}

// named are the servers that the command would ask. blueapi's own takes the option over
// the variable, and both over its files, of which the last counts.
func (p *pointing) named(a *app, ownHost bool) (all []named) {
	for _, h := range p.hosts {
		all = append(all, named{"the command's option -h", h.url})
	}
	if p.like && len(all) > 0 || ownHost {
		return all
	}
	if a.host != "" {
		all = append(all, named{"BLUEAPI_HOST", a.host})
		if p.like {
			return all
		}
	}
	files := slices.Concat(p.files, p.env)
	if p.like && len(p.files) > 0 {
		files = p.files
	}
	var said []named
	for _, f := range files {
		if f.file != nil && f.file.URL() != "" {
			said = append(said, named{f.path, f.file.URL()})
		}
	}
	if p.like && len(said) > 0 {
		said = said[len(said)-1:]
	}
	return append(all, said...)
}

// point returns the arguments and the environment of a command that is to ask the
// gateway, and writes the files that they name into a folder.
func (p *pointing) point(dir, url, broker string) (argv, env []string, err error) {
	argv = slices.Clone(p.argv)
	n := 0
	write := func(f configArg) (string, error) {
		b, err := f.file.PointedTo(url, broker)
		if err != nil {
			return "", err
		}
		n++
		path := filepath.Join(dir, strconv.Itoa(n)+"-"+filepath.Base(f.path))
		return path, os.WriteFile(path, b, 0o600)
	}
	for _, f := range p.files {
		path, err := write(f)
		if err != nil {
			return nil, nil, err
		}
		argv[f.at] = f.option + path
	}
	for _, h := range p.hosts {
		argv[h.at] = h.option + url
	}
	env = setVariable(os.Environ(), "BLUEAPI_HOST", url)
	var paths []string
	for _, f := range p.env {
		path := f.path
		if f.file != nil {
			if path, err = write(f); err != nil {
				return nil, nil, err
			}
			if strings.ContainsAny(path, " \t\n") {
				return nil, nil, errors.New(configVariable + " cannot name files in a folder with a space in its name: give TMPDIR another one")
			}
		}
		paths = append(paths, path)
	}
	if len(paths) > 0 {
		env = setVariable(env, configVariable, strings.Join(paths, " "))
	}
	return argv, withoutProxy(env), nil
}

// withoutProxy keeps a proxy, if there is one, out of the way to this machine.
func withoutProxy(env []string) []string {
	none := variable(env, "no_proxy")
	if none == "" {
		none = variable(env, "NO_PROXY")
	}
	if none != "" {
		none += ","
	}
	none += "127.0.0.1"
	return setVariable(setVariable(env, "no_proxy", none), "NO_PROXY", none)
}

// variable returns the value of a variable; the last one counts.
func variable(env []string, name string) string {
	for _, v := range slices.Backward(env) {
		if text, ok := strings.CutPrefix(v, name+"="); ok {
			return text
		}
	}
	return ""
}

// setVariable returns the environment with another value of a variable.
func setVariable(env []string, name, text string) []string {
	env = slices.DeleteFunc(slices.Clone(env), func(v string) bool { return strings.HasPrefix(v, name+"=") })
	return append(env, name+"="+text)
}
