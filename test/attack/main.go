package attack

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// plan is what is to be done, as it goes from process to process.
type plan struct {
	Sluice string   `json:"sluice"`
	Bare   bool     `json:"bare"`
	Who    Who      `json:"who"`
	UID    int      `json:"uid"` // of the command
	Only   []string `json:"only"`
	Folder string   `json:"folder"`
}

const planVariable = "SLUICE_ATTACK_PLAN"

func readPlan() (*plan, error) {
	p := new(plan)
	if err := json.Unmarshal([]byte(os.Getenv(planVariable)), p); err != nil {
		return nil, fmt.Errorf("read %s: %w", planVariable, err)
	}
	return p, nil
}

// Of the ordinary user, and of --run-as and su, where root asks for them.
const (
	uidUser  = 1000
	uidRunAs = 1001
)

// Main is the command attack.
func Main(arguments []string) int {
	err := dispatch(arguments)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode() // it has said why
	case !errors.Is(err, flag.ErrHelp):
		fmt.Fprintln(os.Stderr, "attack:", err)
	}
	return 2
}

func dispatch(arguments []string) error {
	if len(arguments) > 0 {
		switch arguments[0] { // what this binary is when it runs itself again
		case "stage":
			uid, err := strconv.Atoi(arguments[1])
			if err != nil {
				return err
			}
			return stageMain(uid)
		case "world":
			return worldMain()
		case "daemon":
			return daemonMain(arguments[1])
		case "uid":
			fmt.Println(os.Geteuid())
			return nil
		case "inside":
			return insideMain()
		case "victim":
			hangup := make(chan os.Signal, 1)
			signal.Notify(hangup, unix.SIGHUP) // which we may have inherited as ignored
			<-hangup
			return nil
		case "row":
			return rowMain(arguments[1])
		}
	}
	return command(arguments)
}

func command(arguments []string) error {
	flags := flag.NewFlagSet("attack", flag.ContinueOnError)
	var p plan
	as := flags.String("as", "", "root, user, run-as or su: as whom the attempts are made (default: all that we can be)")
	flags.StringVar(&p.Sluice, "sluice", "", "`path` of the binary sluice, which is static")
	flags.BoolVar(&p.Bare, "bare", false, "make the attempts without a sandbox, and print which get through")
	page := flags.Bool("page", false, "print the page of the guide, and try nothing")
	if err := flags.Parse(arguments); err != nil {
		return flag.ErrHelp // it has said why
	}
	if *page {
		_, err := io.WriteString(os.Stdout, Page())
		return err
	}
	if p.Only = flags.Args(); p.Sluice == "" && !p.Bare {
		return errors.New("-sluice is missing: the path of the binary, as in attack -sluice bin/sluice")
	}
	if *as == "" && os.Geteuid() == 0 {
		return p.everyWho()
	}
	return p.runAs(*as, os.Stdout)
}

// runAs makes the attempts as one user, and prints one line for each.
func (p plan) runAs(as string, output io.Writer) error {
	starter, err := p.identify(as)
	if err != nil {
		return err
	}
	return p.run(starter, output)
}

// identify says who is who: uid of whoever starts sluice.
func (p *plan) identify(as string) (starter int, err error) {
	uid := os.Geteuid()
	if as == "" {
		as = "user"
	}
	switch {
	case as == "user" && uid == 0:
		p.Who, p.UID = User, uidUser
		return uidUser, nil
	case as == "user":
		p.Who, p.UID = User, uid
		return uid, nil
	case uid != 0 && (as == "root" || as == "run-as" || as == "su"):
		return 0, fmt.Errorf("-as %s requires root", as)
	case as == "root":
		p.Who = Root
		return 0, nil
	case as == "run-as":
		p.Who, p.UID = RunAs, uidRunAs
		return 0, nil
	case as == "su":
		p.Who, p.UID = Su, uidRunAs
		return 0, nil
	}
	return 0, fmt.Errorf("-as %q is not root, user, run-as or su", as)
}

// run makes the folder of the outside and stages it.
func (p *plan) run(starter int, output io.Writer) error {
	folder, err := os.MkdirTemp("/tmp", "attack-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	p.Folder = folder
	own := filepath.Join(folder, "attack")
	if err := errors.Join(os.Chmod(folder, 0o755), copyProgram("/proc/self/exe", own)); err != nil {
		return err
	}
	if !p.Bare {
		sluice := filepath.Join(folder, "sluice")
		if err := copyProgram(p.Sluice, sluice); err != nil {
			return err
		}
		p.Sluice = sluice
	}
	if os.Geteuid() == 0 {
		setuid := filepath.Join(folder, "setuid") // root's, as that of su
		if err := errors.Join(copyProgram(own, setuid), os.Chmod(setuid, 0o755|os.ModeSetuid), os.Chown(folder, p.UID, p.UID)); err != nil {
			return err
		}
	}
	encoded, err := json.Marshal(p)
	if err != nil {
		return err
	}
	environment := slices.DeleteFunc(os.Environ(), func(v string) bool { return len(v) > 7 && v[:7] == "SLUICE_" })
	stage, err := inStage(append(environment, planVariable+"="+string(encoded)), "stage", strconv.Itoa(starter))
	if err != nil {
		return err
	}
	stage.Stdout = output
	return stage.Run()
}

// copyProgram copies a program to where each user may execute it.
func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Chmod(0o755), out.Close())
}
