package driver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

const (
	// CommitEvery is after how many records a member commits.
	CommitEvery = 10
	eventsLimit = 1000
)

// Leave commits, leaves the group, and ends the member: nothing is told any more when it returns.
type Leave func(ctx context.Context) error

// Membership is what a member of a group is to be, and where it tells what it goes through. Telling waits for the
// matrix when it has not come for too many events.
type Membership struct {
	Group, Topic, Assignor string
	// Session is zero if the broker says how long it is.
	Session time.Duration

	events chan any
	code   func(error) (int, bool)
}

// Heartbeat is the time from one heartbeat to the next.
func (m *Membership) Heartbeat() time.Duration { return m.Session / 10 }

// Assigned tells what the member got.
func (m *Membership) Assigned(partitions ...int32) {
	if len(partitions) > 0 {
		m.events <- map[string]any{"assigned": partitions}
	}
}

// Revoked tells what the member gave up or lost.
func (m *Membership) Revoked(partitions ...int32) {
	if len(partitions) > 0 {
		m.events <- map[string]any{"revoked": partitions}
	}
}

// Processed tells of a record.
func (m *Membership) Processed(partition int32, offset int64) {
	m.events <- map[string]any{"record": [2]int64{int64(partition), offset}}
}

// Failed tells an error, if it is none of those that a group's life brings along.
func (m *Membership) Failed(err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	code, _ := m.code(err)
	switch code {
	case 14, 15, 16: // The coordinator is loading, is not there yet, is another.
	case 22, 25, 27, 110, 113: // The group is rebalancing, or went on without this member.
	default:
		m.events <- err
		return
	}
	fmt.Fprintln(os.Stderr, "group:", err)
}

// group is the one of which a driver is a member.
type group struct {
	events chan any
	leave  Leave
}

func (g *group) join(family Family, r request) error {
	g.events = make(chan any, eventsLimit)
	var err error
	g.leave, err = family.Join(&Membership{
		Group:    r.Group,
		Topic:    r.Topic,
		Assignor: r.Assignor,
		Session:  time.Duration(r.SessionTimeoutMs) * time.Millisecond,
		events:   g.events,
		code:     family.Code,
	})
	return err
}

func (g *group) poll(timeout time.Duration) (reply, error) {
	var told []any
	select {
	case event := <-g.events:
		told = append(told, event)
	case <-time.After(timeout):
	}
	for range len(g.events) {
		told = append(told, <-g.events)
	}
	return heard(told)
}

func (g *group) end(ctx context.Context) (reply, error) {
	go func() {
		if err := g.leave(ctx); err != nil {
			g.events <- err
		}
		close(g.events)
	}()
	var told []any
	for event := range g.events {
		told = append(told, event)
	}
	return heard(told)
}

func heard(told []any) (reply, error) {
	for _, event := range told {
		if err, failed := event.(error); failed {
			return nil, err
		}
	}
	return reply{"events": append([]any{}, told...)}, nil
}
