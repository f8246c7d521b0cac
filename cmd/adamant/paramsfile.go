package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/adamant-go/adamant/internal/config"
)

// maxParams bounds a file of parameters, in bytes.
const maxParams = 16 << 20

func readObjectFile(path string) ([]param, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	defer func() { _ = f.Close() }()
	return readObject(path, f)
}

// readObject reads an object from a file: JSON, and if it is not that, YAML.
func readObject(name string, r io.Reader) ([]param, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxParams+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot be read: %w", err)
	case len(b) > maxParams:
		return nil, fmt.Errorf("cannot be read: %s has more than %d bytes", name, maxParams)
	}
	if !json.Valid(b) {
		if b, err = config.Object(name, b); err != nil {
			return nil, fmt.Errorf("cannot be read: %w", err)
		}
	}
	return objectOfJSON(string(b))
}
