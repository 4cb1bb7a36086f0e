package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sluice.dev/sluice/test/mesh"
)

// sshScript runs in mounts of its own: a server of ssh, a machine's configuration of ssh that
// belongs to root, and a user's that root manages. It runs the rest of its arguments as that user.
const sshScript = `
set -e
d=$1; shift
mount --make-rprivate /
mount -t tmpfs none /run && mkdir -m 755 /run/sshd
mkdir -p $d/home/.ssh $d/root $d/etc
grep -v -E '^[^:]*:[^:]*:1000:' /etc/passwd >$d/etc/passwd
echo "sluice-test:x:1000:1000::$d/home:/bin/sh" >>$d/etc/passwd
mount --bind $d/etc/passwd /etc/passwd
ssh-keygen -q -t ed25519 -N '' -f $d/root/host && ssh-keygen -q -t ed25519 -N '' -f $d/home/key
cp $d/home/key.pub $d/root/keys
cat >$d/root/sshd_config <<END
ListenAddress 127.0.0.1:$PORT
HostKey $d/root/host
AuthorizedKeysFile $d/root/keys
StrictModes no
UsePAM no
PidFile none
END
echo 'Include /etc/ssh/ssh_config.d/*.conf' >$d/etc/ssh_config
mount --bind $d/etc/ssh_config /etc/ssh/ssh_config
mount -t tmpfs -o mode=755 none /etc/ssh/ssh_config.d
printf 'Host host.sluice.internal\n  Port %s\n  Include %s/root/more\n' $PORT $d >/etc/ssh/ssh_config.d/first.conf
printf 'User sluice-test\nIdentityFile %s/home/key\n' $d >$d/root/more
printf 'BatchMode yes\nStrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\n' >$d/root/linked
ln -s $d/root/linked /etc/ssh/ssh_config.d/second.conf
echo 'Compression no' >$d/home/.ssh/config
chown -R 1000:1000 $d/home && chown 0:0 $d/home/.ssh/config
git init -q --bare $d/home/repo.git && chown -R 1000:1000 $d/home/repo.git
cd $d/home
/usr/sbin/sshd -D -f $d/root/sshd_config -E $d/root/log & server=$!
trap 'kill $server' EXIT
until ssh-keyscan -p $PORT 127.0.0.1 2>/dev/null | grep -q ed25519; do kill -0 $server; sleep 0.1; done
setpriv --reuid=1000 --regid=1000 --clear-groups -- "$@"
`

// ssh takes what its configuration includes from root or its user alone, and inside of a
// rootless sandbox root's files look as if they were somebody else's.
func TestSSHAndGitOverSSHWorkForAUserWhoseConfigurationIsRoots(t *testing.T) {
	place := asRoot(t, "ssh", "ssh-keygen", "git", "unshare", "setpriv")
	if _, err := os.Stat("/usr/sbin/sshd"); err != nil {
		t.Skip(err)
	}
	if _, err := os.Stat("/etc/ssh/ssh_config.d"); err != nil {
		t.Skip(err)
	}
	folder := filepath.Join(filepath.Dir(place.Runtime), "ssh")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{place.Runtime, place.Data} {
		if err := os.Chown(path, 1000, 1000); err != nil {
			t.Fatal(err)
		}
	}
	_, port, _ := strings.Cut(freePort(t), ":")
	inside := `
		ssh host.sluice.internal 'echo "a shell of $(id -un)"'
		ssh-keygen -q -t ed25519 -N '' -f here && echo a key
		git clone -q ssh://host.sluice.internal$PWD/repo.git work && cd work &&
		git -c user.name=n -c user.email=e@example.com commit -q --allow-empty -m one && git push -q origin HEAD && git ls-remote origin HEAD | wc -l`
	command := exec.CommandContext(t.Context(), "unshare", "-m", "sh", "-c", sshScript, "sh", folder,
		filepath.Join(place.Bin, "sluice"), "run", "--reach-host", port, "--", "sh", "-c", inside)
	command.Env = append(os.Environ(), "SLUICE_RUNTIME="+place.Runtime, "SLUICE_DATA="+place.Data, "HOME="+filepath.Join(folder, "home"), "PORT="+port)
	r := mesh.Finish(t, command, "")
	if want := "a shell of sluice-test\na key\n1\n"; r.Code != 0 || r.Stdout != want || strings.Contains(r.Stderr, "Bad owner") {
		log, _ := os.ReadFile(filepath.Join(folder, "root/log"))
		t.Errorf("exit %d: %q, want %q\n%s\n%s", r.Code, r.Stdout, want, r.Stderr, log)
	}
}
