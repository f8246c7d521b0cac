package blueapi

import (
	"context"
	"net/url"
)

// PythonEnvironment is what is installed where the server runs its plans.
type PythonEnvironment struct {
	Packages []Package `json:"installed_packages"`
	// ScratchEnabled tells that the server takes packages from directories that
	// are being worked in.
	ScratchEnabled bool `json:"scratch_enabled"`
}

// Package is an installed Python package.
type Package struct {
	Name     string `json:"name"`
	Version  string `json:"version"`
	Location string `json:"location"`
	// IsDirty tells that it is a working directory with uncommitted changes.
	IsDirty bool `json:"is_dirty"`
	// Source is one of the sources of a PackageFilter.
	Source string `json:"source"`
}

// PackageFilter selects packages. The zero filter selects all.
type PackageFilter struct {
	// Name is a whole name; empty means any.
	Name string
	// Source is SourcePyPI or SourceScratch; empty means either.
	Source string
}

// The sources of packages that the server knows.
const (
	SourcePyPI    = "pypi"
	SourceScratch = "scratch"
)

// PythonEnvironment lists what is installed on the server. It works while the
// environment of plans and devices is broken.
func (c *Client) PythonEnvironment(ctx context.Context, f PackageFilter) (PythonEnvironment, error) {
	query := url.Values{}
	if f.Name != "" {
		query.Set("name", f.Name)
	}
	if f.Source != "" {
		query.Set("source", f.Source)
	}
	path := "/python_environment"
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	var e PythonEnvironment
	op := read("GET /python_environment", path, how{})
	op.key = "installed_packages"
	err := c.do(ctx, op, &e)
	return e, err
}
