package node

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"strings"
)

// Image is an image that a test makes: files on top of those of another one, or of nothing.
type Image struct {
	Name       string
	Files      map[string][]byte // by path; all of them may be read and run by everybody
	Entrypoint []string
	Env        []string
	User       string

	below [][]byte // layers of the image underneath
}

// maxImage bounds what is read of an archive, in bytes.
const maxImage = 512 << 20

// ReadImage reads an OCI archive with one image.
func ReadImage(archive string) (*Image, error) {
	file, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	files := make(map[string][]byte)
	for reader := tar.NewReader(io.LimitReader(file, maxImage)); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", archive, err)
		}
		if files[path.Clean(header.Name)], err = io.ReadAll(reader); err != nil {
			return nil, fmt.Errorf("%s: %w", archive, err)
		}
	}
	type descriptor struct {
		Digest      string
		Annotations map[string]string
	}
	var index struct{ Manifests []descriptor }
	var manifest struct {
		Config descriptor
		Layers []descriptor
	}
	var config struct {
		Config struct {
			User            string
			Entrypoint, Env []string
		}
	}
	blob := func(d descriptor) []byte { return files["blobs/sha256/"+strings.TrimPrefix(d.Digest, "sha256:")] }
	if err := json.Unmarshal(files["index.json"], &index); err != nil {
		return nil, fmt.Errorf("%s: index.json: %w", archive, err)
	}
	if len(index.Manifests) != 1 {
		return nil, fmt.Errorf("%s holds %d images, not one", archive, len(index.Manifests))
	}
	if err := errors.Join(json.Unmarshal(blob(index.Manifests[0]), &manifest), json.Unmarshal(blob(manifest.Config), &config)); err != nil {
		return nil, fmt.Errorf("%s: %w", archive, err)
	}
	image := &Image{Name: index.Manifests[0].Annotations["io.containerd.image.name"], Entrypoint: config.Config.Entrypoint, Env: config.Config.Env, User: config.Config.User, Files: make(map[string][]byte)}
	for _, layer := range manifest.Layers {
		packed, err := gzip.NewReader(bytes.NewReader(blob(layer)))
		if err != nil {
			return nil, fmt.Errorf("%s: a layer: %w", archive, err)
		}
		content, err := io.ReadAll(io.LimitReader(packed, maxImage))
		if err != nil {
			return nil, fmt.Errorf("%s: a layer: %w", archive, err)
		}
		image.below = append(image.below, content)
	}
	return image, nil
}

// Write writes an archive as docker save does, which ctr imports.
func (i *Image) Write(archive string) error {
	layers := i.below
	if len(i.Files) > 0 {
		var top bytes.Buffer
		w := tar.NewWriter(&top)
		for name, data := range i.Files {
			if err := put(w, name, data); err != nil {
				return err
			}
		}
		if err := w.Close(); err != nil {
			return err
		}
		layers = append(layers[:len(layers):len(layers)], top.Bytes())
	}
	var sums, names []string
	for n, layer := range layers {
		sum := sha256.Sum256(layer)
		sums, names = append(sums, "sha256:"+hex.EncodeToString(sum[:])), append(names, fmt.Sprintf("layer%d.tar", n))
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "rootfs": map[string]any{"type": "layers", "diff_ids": sums},
		"config": map[string]any{"Entrypoint": i.Entrypoint, "Env": i.Env, "User": i.User, "WorkingDir": "/"},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{i.Name}, "Layers": names}})
	if err != nil {
		return err
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for n, layer := range layers {
		err = errors.Join(err, put(w, names[n], layer))
	}
	if err := errors.Join(err, put(w, "config.json", config), put(w, "manifest.json", manifest), w.Close()); err != nil {
		return err
	}
	return os.WriteFile(archive, out.Bytes(), 0o600)
}

func put(w *tar.Writer, name string, data []byte) error {
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(data)), Format: tar.FormatUSTAR}); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}
