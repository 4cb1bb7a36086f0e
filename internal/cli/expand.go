package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxFiles bounds the files that the -f of one command lead to.
const maxFiles = 10_000

// fileEndings are those of the files that are read of a folder.
var fileEndings = []string{".yaml", ".yml", ".json"}

// expandFiles returns the files that each -f names: itself, those of a folder with one
// of fileEndings, by name, or those that a pattern of path.Match fits.
func expandFiles(files []string) (all []string, err error) {
	for _, file := range files {
		found, err := expandFile(file)
		if err != nil {
			return nil, err
		}
		if all = append(all, found...); len(all) > maxFiles {
			return nil, fmt.Errorf("%s: more than %d files", file, maxFiles)
		}
	}
	return all, nil
}

func expandFile(file string) ([]string, error) {
	if file == "-" {
		return []string{file}, nil
	}
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, os.ErrNotExist) && strings.ContainsAny(file, "*?["):
		found, err := filepath.Glob(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("%s: no file matches", file)
		}
		return found, nil
	case err != nil, !info.IsDir(): // who reads it says what is wrong with it
		return []string{file}, nil
	}
	entries, err := os.ReadDir(file)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, entry := range entries {
		if !entry.IsDir() && slices.Contains(fileEndings, filepath.Ext(entry.Name())) {
			found = append(found, filepath.Join(file, entry.Name()))
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s: no file in it ends in %s", file, join(fileEndings))
	}
	return found, nil
}
