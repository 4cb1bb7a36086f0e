package bare

import (
	"errors"
	"io/fs"
	"os/exec"
	"strings"
)

// Mirror returns where this machine gets Debian's packages from: the first http or https
// source of Debian itself in a folder such as /etc/apt, in both of its formats
// (sources.list(5)).
func Mirror(apt fs.FS) (string, error) {
	var files []string
	for _, pattern := range []string{"sources.list", "sources.list.d/*.list", "sources.list.d/*.sources"} {
		found, err := fs.Glob(apt, pattern)
		if err != nil {
			return "", err
		}
		files = append(files, found...)
	}
	for _, file := range files {
		text, err := fs.ReadFile(apt, file)
		if err != nil {
			return "", err
		}
		var uri, suites string
		for line := range strings.Lines(string(text) + "\n\n") {
			fields := strings.Fields(line)
			switch {
			case len(fields) == 0:
				uri, suites = "", ""
			case strings.HasPrefix(fields[0], "#"):
			case fields[0] == "deb":
				at := 1
				if at < len(fields) && strings.HasPrefix(fields[at], "[") {
					for at < len(fields) && !strings.HasSuffix(fields[at], "]") {
						at++
					}
					at++
				}
				if at+1 < len(fields) && fields[at+1] == suite && isWeb(fields[at]) {
					return fields[at], nil
				}
			case strings.EqualFold(fields[0], "URIs:") && len(fields) > 1:
				uri = fields[1]
			case strings.EqualFold(fields[0], "Suites:") && len(fields) > 1:
				suites = " " + strings.Join(fields[1:], " ") + " "
			}
			if isWeb(uri) && strings.Contains(suites, " "+suite+" ") {
				return uri, nil
			}
		}
	}
	return "", errors.New("/etc/apt names no mirror of Debian " + suite + " that a bare root could be made from")
}

func isWeb(uri string) bool {
	return strings.HasPrefix(uri, "http://") || strings.HasPrefix(uri, "https://")
}

// AptConf is what this machine's apt is set to where it fetches, for the apt of a root:
// a proxy, and dates that a mirror of a day in the past does not keep.
func AptConf() (string, error) {
	said, err := exec.Command("apt-config", "dump").Output()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for line := range strings.Lines(string(said)) {
		name, value, _ := strings.Cut(line, " ")
		for _, kept := range []string{"Acquire::Check-", "Acquire::http", "Acquire::https"} {
			if strings.HasPrefix(name, kept) && !strings.HasPrefix(value, `""`) {
				b.WriteString(line)
			}
		}
	}
	return b.String(), nil
}
