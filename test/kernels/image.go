package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"

	"github.com/cavaliergopher/cpio"

	"sluice.dev/sluice/test/kernels/modules"
)

// testData are folders that tests of a package read, by their place in the image.
var testData = map[string]string{"tests/sandbox/testdata": "internal/sandbox/testdata", "tests/capture/testdata": "internal/capture/testdata"}

// loadable are the modules in the image, with what they need: those that Sluice, its
// tests and its small internet may ask for, and their neighbours, so that a kernel which
// chooses among aliases has the choice of a whole one.
var loadable = []string{
	"net/netfilter", "net/ipv4/netfilter", "net/ipv6/netfilter", "net/unix",
	"net/ipv4/inet_diag.ko", "net/ipv4/tcp_diag.ko", "net/ipv4/udp_diag.ko",
	"net/sctp", "net/vmw_vsock", "drivers/net/dummy.ko", "drivers/net/veth.ko", "drivers/net/tun.ko", "fs/overlayfs",
}

// tools are the names under which the image has busybox. It has no modprobe: the guest
// puts its own there once it has tried without. Nor has it setpriv, which busybox knows by
// other flags than util-linux: tests that need it are skipped.
var tools = []string{
	"sh", "cat", "chmod", "chown", "cp", "cut", "date", "dd", "echo", "env", "false", "grep", "head", "id", "kill", "ln",
	"ls", "mkdir", "mkfifo", "mknod", "mount", "mv", "nc", "ps", "pwd", "readlink", "rm", "rmdir", "sed", "seq", "setsid", "sleep",
	"sort", "stat", "su", "tail", "tar", "test", "touch", "tr", "true", "tty", "umount", "uname", "unshare", "wc", "wget", "xargs",
}

// image writes the first file system of a kernel: an archive in memory, which needs no
// disk and none of the machine's rights.
type image struct {
	archive *cpio.Writer
	made    map[string]bool // folders
	err     error           // the first
}

// makeImage writes the image of a processor's kernel and returns its file.
func makeImage(t target, cache string, p *packages, programs string) (string, error) {
	name := filepath.Join(cache, t.arch, "image.cpio")
	file, err := os.Create(name)
	if err != nil {
		return "", err
	}
	buffered := bufio.NewWriter(file)
	i := &image{archive: cpio.NewWriter(buffered), made: make(map[string]bool)}
	i.system()
	i.copyAll("bin", programs)
	i.file("bin/busybox", 0o4755, p.busybox) // setuid: su is one of its tools
	for _, tool := range tools {
		i.link("bin/"+tool, "busybox")
	}
	for place, folder := range testData {
		i.copyAll(place, folder)
	}
	i.modules(p)
	i.link("init", "bin/guest")
	if err := errors.Join(i.err, i.archive.Close(), buffered.Flush(), file.Close()); err != nil {
		return "", fmt.Errorf("write the image for %s: %w", t.arch, err)
	}
	return name, nil
}

// system makes the folders and the few files that a C library's programs and Go's look
// at. What the kernel mounts is the guest's part.
func (i *image) system() {
	for folder, mode := range map[string]cpio.FileMode{
		"proc": 0o555, "sys": 0o555, "dev": 0o755, "run": 0o755, "etc": 0o755, "sbin": 0o755, "root": 0o700, "tmp": 0o1777, "var/tmp": 0o1777,
		"home/user": 0o755, "usr/bin": 0o755, "mnt": 0o755, "srv": 0o755,
	} {
		i.folder(folder, mode)
	}
	i.link("var/run", "/run")
	for name, text := range map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
		"etc/group":  "root:x:0:\nuser:x:1000:\nnogroup:x:65534:\n",
		"etc/hosts":  "127.0.0.1 localhost\n::1 localhost\n", "etc/resolv.conf": "nameserver 8.8.8.8\n",
		"etc/nsswitch.conf": "hosts: files dns\n", "etc/hostname": "guest\n",
	} {
		i.text(name, text)
	}
}

func (i *image) modules(p *packages) {
	index, err := modules.Read(p.modules)
	if err != nil {
		i.fail(err)
		return
	}
	names, err := index.Below(loadable...)
	if err != nil {
		i.fail(err)
		return
	}
	held := make(modules.Index, len(names))
	for _, name := range names {
		held[name] = index[name]
		i.file("lib/modules/"+p.release+"/"+index[name].File, 0o644, filepath.Join(p.modules, index[name].File))
	}
	text, err := json.Marshal(held)
	i.fail(err)
	i.text("lib/modules/"+p.release+"/index.json", string(text))
}

func (i *image) fail(err error) {
	if i.err == nil {
		i.err = err
	}
}

// entry writes one entry, and its folder where it is the first there.
func (i *image) entry(name string, mode cpio.FileMode, content []byte) {
	if parent := path.Dir(name); parent != "." {
		i.folder(parent, 0o755)
	}
	if i.err != nil {
		return
	}
	i.fail(i.archive.WriteHeader(&cpio.Header{Name: name, Mode: mode, Size: int64(len(content)), Links: 1}))
	if i.err == nil && len(content) > 0 {
		_, err := i.archive.Write(content)
		i.fail(err)
	}
}

func (i *image) folder(name string, mode cpio.FileMode) {
	if !i.made[name] {
		i.made[name] = true
		i.entry(name, cpio.TypeDir|mode, nil)
	}
}

func (i *image) text(name, text string) {
	i.entry(name, cpio.TypeReg|0o644, []byte(text))
}

func (i *image) link(name, target string) {
	i.entry(name, cpio.TypeSymlink|0o777, []byte(target)) // the writer leaves the target to us
}

func (i *image) file(name string, mode cpio.FileMode, from string) {
	content, err := os.ReadFile(from)
	i.fail(err)
	i.entry(name, cpio.TypeReg|mode, content)
}

// copyAll copies the files of a folder.
func (i *image) copyAll(name, folder string) {
	entries, err := os.ReadDir(folder)
	i.fail(err)
	for _, entry := range entries {
		if entry.Type().IsRegular() {
			i.file(name+"/"+entry.Name(), 0o755, filepath.Join(folder, entry.Name()))
		}
	}
}
