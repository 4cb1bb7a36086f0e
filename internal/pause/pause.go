// Package pause waits for a time that a context may cut short. Whatever tries again, or is
// held up on purpose, calls it. It never outlives the context.
package pause

import (
	"context"
	"time"
)

// For waits for so long: nil, or the cause for which ctx ended before.
func For(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
