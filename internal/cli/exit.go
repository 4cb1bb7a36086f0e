package cli

// Exit statuses of sluice why.
const (
	ExitDenied = 3 // it is denied, or names a port that a service of the mesh does not have
)

// exitNotRun is that of sluice run where the command did not run (run.ExitFailed).
const exitNotRun = 125

// runName is the command whose exit status is another command's.
const runName = "run"

// ExitError ends a command with a status of its own. Err, where not nil, is printed;
// without it everything was said already.
type ExitError struct {
	Code int
	Err  error
}

func (e *ExitError) Error() string {
	if e.Err == nil {
		return ""
	}
	return e.Err.Error()
}

// Unwrap returns Err.
func (e *ExitError) Unwrap() error { return e.Err }
