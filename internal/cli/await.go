package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/api/v1alpha1"
	"sluice.dev/sluice/internal/rest"
)

const (
	// defaultWait is how long --wait waits where it says nothing else.
	defaultWait = 30 * time.Second
	// waitPoll is how often an object is looked at meanwhile.
	waitPoll = 100 * time.Millisecond
)

// await returns when every connected proxy runs an object as it was written, or says
// why that cannot come, or that it did not in time.
func await(ctx context.Context, client *rest.Client, o *api.Object, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(waitPoll)
	defer tick.Stop()
	missing := "its status says nothing yet"
	for {
		now, err := client.Get(ctx, o.TypeOf(), o.Metadata.Namespace, o.Metadata.Name)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			return fmt.Errorf("wait for %s: %w", o.ID(), err)
		default:
			var done bool
			if done, missing, err = programmed(&now); done || err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
			continue
		case <-ctx.Done():
		}
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return fmt.Errorf("%s is stored, and not in force everywhere after %s: %s", o.ID(), within, missing)
		}
		return ctx.Err()
	}
}

// programmed says whether every connected proxy runs an object, and else what is
// missing. An object that has no effect is an error: waiting changes nothing.
func programmed(o *api.Object) (done bool, missing string, err error) {
	missing = "its status says nothing yet"
	for _, c := range statusOfObject(o).Conditions {
		switch {
		case c.ObservedGeneration != o.Metadata.Generation:
		case c.Type == "Accepted" && c.Status != "True":
			return false, "", fmt.Errorf("%s is stored, and has no effect: %s", o.ID(), c.Message)
		case c.Type == "Programmed" && c.Status == "True":
			return true, "", nil
		case c.Type == "Programmed":
			missing = conditionText(&c)
		}
	}
	return false, missing, nil
}

func conditionText(c *v1alpha1.Condition) string {
	if c.Message == "" {
		return strings.ToLower(c.Reason)
	}
	return c.Message
}
