package egress

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"sluice.dev/sluice/bench/load"
	"sluice.dev/sluice/bench/process"
	"sluice.dev/sluice/bench/report"
	"sluice.dev/sluice/internal/capture"
)

// startTime bounds the start of one process.
const startTime = 20 * time.Second

// warmRequests is how many requests each connection makes before a measurement,
// so that pools are filled and memory is grown.
const warmRequests = 50

// contender is one proxy that is measured.
type contender struct {
	name  string
	pid   int
	plain string // address that takes plain HTTP for plain HTTP upstream
	tls   string // address that takes plain HTTP and originates TLS
	// through is the address that passes TLS on.
	through string
}

// Inside is the role of the process in the namespace: it reads Options, starts
// everything and measures.
func Inside(self string, in io.Reader, out io.Writer) error {
	said := json.NewEncoder(out)
	var o Options
	if err := json.NewDecoder(in).Decode(&o); err != nil {
		return err
	}
	section, err := measureInside(self, o, func(format string, args ...any) {
		said.Encode(message{Progress: fmt.Sprintf(format, args...)})
	})
	if err != nil {
		return said.Encode(message{Error: err.Error()})
	}
	return said.Encode(message{Section: &section})
}

func measureInside(self string, o Options, say func(string, ...any)) (report.Section, error) {
	if _, err := capture.SetUpAnyIP(); err != nil {
		return report.Section{}, err
	}
	proxyCPU, endsCPU, err := process.CPUs()
	if err != nil {
		return report.Section{}, err
	}
	start := func(name string, cpu int, env []string, argv ...string) (*process.Process, error) {
		say("egress: starting %s", name)
		return process.Start(context.Background(), process.Config{Name: name, Argv: argv, Env: env, CPU: cpu, Dir: o.Dir})
	}

	upstream, err := start("upstream", endsCPU, []string{"GOMAXPROCS=1"}, self, RoleUpstream, o.Dir)
	if err != nil {
		return report.Section{}, err
	}
	defer upstream.Stop()
	if _, err := upstream.Line(startTime); err != nil {
		return report.Section{}, err
	}
	role := []string{self, RoleLoad}
	if o.Through {
		role = []string{self, RolePull, filepath.Join(o.Dir, caFile)}
	}
	generator, err := start("load", endsCPU, []string{"GOMAXPROCS=1"}, role...)
	if err != nil {
		return report.Section{}, err
	}
	defer generator.Stop()

	var contenders []contender
	for i, build := range []struct{ name, program, profile string }{{"Sluice", self, o.Profile}, {"Sluice before", o.Before, ""}} {
		if build.program == "" {
			continue
		}
		sluice, err := start(build.name, proxyCPU, []string{"GOMAXPROCS=1"}, build.program, RoleSluice, filepath.Join(o.Dir, caFile), build.profile, strconv.Itoa(i))
		if err != nil {
			return report.Section{}, err
		}
		defer sluice.Stop()
		var at listening
		if err := sluice.Receive(startTime, &at); err != nil {
			return report.Section{}, err
		}
		contenders = append(contenders, contender{name: build.name, pid: sluice.PID, plain: at.Plain, tls: at.TLS, through: at.Through})
	}

	section := o.section()
	path, err := findHAProxy("haproxy", "/usr/sbin/haproxy") // sbin is not on every user's path
	if err != nil {
		section.Notes = append(section.Notes, "HAProxy: skipped: "+err.Error())
	} else {
		for i, variant := range haproxyVariants {
			c, config := variant.configure(o.Dir, i)
			if err := os.WriteFile(config.path, []byte(config.text), 0o600); err != nil {
				return section, err
			}
			p, err := start(c.name, proxyCPU, nil, path, "-db", "-f", config.path)
			if err != nil {
				return section, err
			}
			defer p.Stop()
			c.pid = p.PID
			contenders = append(contenders, c)
		}
		section.Notes = append(section.Notes, haproxyVersion(path)+"; nbthread 1; a map of 1,000 names decides by Host, Keep-Alive and Proxy-Connection are dropped, http-reuse always.")
	}
	m := measurement{options: o, load: generator, say: say}
	for _, c := range contenders {
		if err := m.ready(c); err != nil {
			return section, err
		}
	}
	if o.Through {
		if err := m.runThrough(contenders); err != nil {
			return section, err
		}
		m.reportThrough(&section, contenders)
		return section, nil
	}
	if err := m.run(contenders); err != nil {
		return section, err
	}
	m.report(&section, contenders)
	return section, nil
}

// ready waits until a contender serves what is asked of it.
func (m *measurement) ready(c contender) error {
	deadline := time.Now().Add(startTime)
	addresses, try := []string{c.plain, c.tls}, func(address string) error { return tryOnce(address, m.load) }
	if m.options.Through {
		addresses, try = []string{c.through}, func(address string) error {
			_, _, err := m.pull(c, load.Pull{Address: address, Conns: 1, Size: 1})
			return err
		}
	}
	for _, address := range addresses {
		for {
			err := try(address)
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("%s does not serve %s: %w", c.name, address, err)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return nil
}

func tryOnce(address string, generator *process.Process) error {
	if err := generator.Send(load.Order{Address: address, Conns: 1, Requests: 1}); err != nil {
		return err
	}
	var r load.Ready
	if err := generator.Receive(startTime, &r); err != nil {
		return err
	}
	if r.Error != "" {
		return fmt.Errorf("%s", r.Error)
	}
	var result load.Result
	if err := generator.Send("go"); err != nil {
		return err
	}
	return generator.Receive(startTime, &result)
}
