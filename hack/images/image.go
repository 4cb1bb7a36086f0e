package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// image is one program as an image.
type image struct {
	name string
	user string // a number, so that Kubernetes knows that it is not root
}

var images = []image{{"sluice-proxy", "1337:1337"}, {"sluice-server", "65532:65532"}}

// epoch is the time of everything in an image.
var epoch = time.Unix(0, 0).UTC()

// write writes the OCI archive of a program, whole or not at all, and returns the digest of
// the image.
func (i image) write(program, arch, reference, archive string) (digest string, err error) {
	content, err := os.ReadFile(program)
	if err != nil {
		return "", err
	}
	files, err := layer(i.name, content)
	if err != nil {
		return "", err
	}
	made, err := mutate.AppendLayers(mutate.MediaType(mutate.ConfigMediaType(empty.Image, types.OCIConfigJSON), types.OCIManifestSchema1), files)
	if err != nil {
		return "", err
	}
	config, err := made.ConfigFile()
	if err != nil {
		return "", err
	}
	config = config.DeepCopy()
	config.Architecture, config.OS, config.Created = arch, "linux", v1.Time{Time: epoch}
	config.History = []v1.History{{Created: v1.Time{Time: epoch}, CreatedBy: i.name}}
	config.Config = v1.Config{User: i.user, Entrypoint: []string{"/" + i.name}, WorkingDir: "/", Labels: map[string]string{
		"org.opencontainers.image.title": i.name, "org.opencontainers.image.licenses": "Apache-2.0",
	}}
	if made, err = mutate.ConfigFile(made, config); err != nil {
		return "", err
	}
	hash, err := made.Digest()
	if err != nil {
		return "", err
	}
	folder, err := os.MkdirTemp(filepath.Dir(archive), ".image-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(folder)
	path, err := layout.Write(filepath.Join(folder, "layout"), empty.Index)
	if err != nil {
		return "", err
	}
	// containerd and podman take the name of an image from these.
	names := map[string]string{"org.opencontainers.image.ref.name": reference, "io.containerd.image.name": reference}
	if err := path.AppendImage(made, layout.WithAnnotations(names), layout.WithPlatform(v1.Platform{OS: "linux", Architecture: arch})); err != nil {
		return "", err
	}
	packed := filepath.Join(folder, "packed")
	if err := pack(filepath.Join(folder, "layout"), packed); err != nil {
		return "", err
	}
	return hash.String(), os.Rename(packed, archive)
}

// layer is the one layer: the program, and a folder for what is temporary.
func layer(name string, program []byte) (v1.Layer, error) {
	var files bytes.Buffer
	w := tar.NewWriter(&files)
	for _, header := range []*tar.Header{
		{Typeflag: tar.TypeReg, Name: name, Mode: 0o555, Size: int64(len(program))},
		{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777},
	} {
		header.ModTime, header.Format = epoch, tar.FormatUSTAR
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if header.Typeflag == tar.TypeReg {
			if _, err := w.Write(program); err != nil {
				return nil, err
			}
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer))
}

// pack writes a folder as an archive, in the order of names, and nothing of who made it when.
func pack(folder, archive string) (err error) {
	file, err := os.OpenFile(archive, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := file.Chmod(0o644); err != nil { // whatever the umask is
		return err
	}
	w := tar.NewWriter(file)
	err = filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == folder {
			return err
		}
		name, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		header := &tar.Header{Typeflag: tar.TypeDir, Name: filepath.ToSlash(name) + "/", Mode: 0o755, ModTime: epoch, Format: tar.FormatUSTAR}
		if entry.IsDir() {
			return w.WriteHeader(header)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		header.Typeflag, header.Name, header.Mode, header.Size = tar.TypeReg, filepath.ToSlash(name), 0o644, int64(len(content))
		if err := w.WriteHeader(header); err != nil {
			return err
		}
		_, err = w.Write(content)
		return err
	})
	if err != nil {
		return fmt.Errorf("pack: %w", err)
	}
	if err := w.Close(); err != nil {
		return err
	}
	return file.Close()
}
