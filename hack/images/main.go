// Command images writes the images of Sluice as OCI archives, without Docker and without a
// base: one program in one layer. `make images` calls it. What it writes depends on the
// programs alone, never on folders, users, umasks or times.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("images", flag.ContinueOnError)
	source := flags.String("source", ".", "`FOLDER` of the module of Sluice")
	to := flags.String("out", "bin/images", "`FOLDER` for the archives")
	arch := flags.String("arch", "amd64,arm64", "architectures, comma separated")
	only := flags.String("only", "", "name of the one image to write (default all)")
	hub := flags.String("hub", "sluice.dev", "`PREFIX` of the images' names")
	tag := flags.String("tag", "devel", "tag of the images, and the version that the programs show")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := os.MkdirAll(*to, 0o755); err != nil {
		return err
	}
	variables, err := linked(*source, *tag)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "sluice-images-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	written := 0
	for _, image := range images {
		if *only != "" && *only != image.name {
			continue
		}
		for _, arch := range strings.Split(*arch, ",") {
			program := filepath.Join(work, image.name+"-"+arch)
			if err := build(*source, image.name, arch, variables, program); err != nil {
				return err
			}
			archive := filepath.Join(*to, image.name+"-"+arch+".tar")
			digest, err := image.write(program, arch, *hub+"/"+image.name+":"+*tag, archive)
			if err != nil {
				return fmt.Errorf("%s: %w", archive, err)
			}
			fmt.Fprintf(out, "%s  %s\n", digest, archive)
			written++
		}
	}
	if written == 0 {
		return fmt.Errorf("there is no image %q", *only)
	}
	return nil
}

// linked is the variables that the linker sets, as hack/build.sh does: which Sluice this is,
// and which Kubernetes the API of its server is.
func linked(source, tag string) (string, error) {
	cmd := exec.Command("go", "list", "-m", "-f", "{{.Version}}", "k8s.io/apiserver")
	cmd.Dir, cmd.Stderr = source, os.Stderr
	version, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("the version of k8s.io/apiserver: %w", err)
	}
	kubernetes := strings.Replace(strings.TrimSpace(string(version)), "v0.", "v1.", 1) // v0.37.2 is Kubernetes v1.37.2
	minor, _, _ := strings.Cut(strings.TrimPrefix(kubernetes, "v1."), ".")
	return fmt.Sprintf("-X sluice.dev/sluice/internal/version.version=%s -X k8s.io/component-base/version.gitVersion=%s -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=%s",
		tag, kubernetes, minor), nil
}

// build compiles a program so that where and when it is compiled leaves no trace in it.
func build(source, name, arch, variables, to string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid= "+variables, "-o", to, "./cmd/"+name)
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS=", "GOEXPERIMENT=", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s for %s: %w\n%s", name, arch, err, out)
	}
	return nil
}
