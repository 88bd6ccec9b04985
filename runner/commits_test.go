package runner

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lpipe/cache"
)

// Steps are told in the order of their submission, in few groups, and none later than promised, however long flushes take.
func TestCommitsTellInOrderAndInTime(t *testing.T) {
	for _, test := range []struct {
		flush, late time.Duration
		groups      int
	}{
		{4 * time.Millisecond, syncWithin, 9},
		{20 * time.Millisecond, syncWithin, 11},
		{40 * time.Millisecond, 2 * syncWithin, 7}, // two flushes
	} {
		t.Run(test.flush.String(), func(t *testing.T) { tellInTime(t, test.flush, test.late, test.groups) })
	}
}

func tellInTime(t *testing.T, flush, within time.Duration, most int) {
	synctest.Test(t, func(t *testing.T) {
		var told []string
		groups := 0
		began := time.Now()
		c := &commits{store: func(batch []*ending) []error {
			groups++
			time.Sleep(flush)
			return make([]error, len(batch))
		}}
		c.tell(func() { told = append(told, "at once") })
		if len(told) != 1 {
			t.Error("with nothing before it, an event is told at once")
		}
		var want []string
		for i := range 40 {
			at := time.Since(began)
			name := fmt.Sprint("step ", i)
			want = append(want, name, "start after "+name)
			c.submit(&ending{told: func() {
				told = append(told, name)
				if late := time.Since(began) - at; late > within {
					t.Errorf("%s was told %s late", name, late)
				}
			}})
			c.tell(func() { told = append(told, "start after "+name) })
			time.Sleep(5 * time.Millisecond)
		}
		time.Sleep(4 * syncWithin)
		c.close()
		if got := told[1:]; !slices.Equal(got, want) {
			t.Errorf("told: %s", strings.Join(got, ", "))
		}
		if groups > most {
			t.Errorf("%d groups in 200 ms", groups)
		}
	})
}

// A step that cannot be put on record is told as failed, others of its group are not touched, and what it then has to
// say is told after them.
func TestCommitsThatFail(t *testing.T) {
	var told []string
	full := errors.New("disk full")
	c := &commits{store: func(batch []*ending) []error {
		errs := make([]error, len(batch))
		if len(batch) > 1 {
			errs[1] = full
		}
		return errs
	}}
	for _, name := range []string{"a", "b", "c"} {
		c.submit(&ending{
			told: func() { told = append(told, name) },
			failed: func(err error) {
				told = append(told, fmt.Sprint(name, ": ", err))
				c.tell(func() { told = append(told, "more about "+name) })
			},
		})
	}
	c.close()
	if got := strings.Join(told, ", "); got != "a, b: disk full, c, more about b" {
		t.Errorf("told: %s", got)
	}
}

// What has nothing to store is told whatever becomes of the rest.
func TestCommitsTellWhatCannotFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []string
		c := &commits{store: func(batch []*ending) []error {
			return slices.Repeat([]error{errors.New("no more files")}, len(batch))
		}}
		c.submit(&ending{told: func() { told = append(told, "stored") }, failed: func(error) { told = append(told, "failed") }})
		c.tell(func() { told = append(told, "start") })
		c.close()
		if got := strings.Join(told, " "); got != "failed start" {
			t.Error(got)
		}
	})
}

// Deposits are prepared while their group gathers, those together that come meanwhile, none while or after it is stored.
func TestCommitsPrepareAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // others are prepared beside a store
		var rounds []int
		prepared, stored := map[*cache.Deposit]bool{}, map[*cache.Deposit]bool{}
		c := &commits{
			prepare: func(some []*cache.Deposit) {
				mu.Lock()
				for _, d := range some {
					if stored[d] || prepared[d] {
						t.Error("what is stored or prepared already is prepared")
					}
					prepared[d] = true
				}
				rounds = append(rounds, len(some))
				mu.Unlock()
				time.Sleep(4 * time.Millisecond)
			},
			store: func(batch []*ending) []error {
				mu.Lock()
				for _, e := range batch {
					stored[e.deposit] = true
				}
				mu.Unlock()
				time.Sleep(10 * time.Millisecond)
				return make([]error, len(batch))
			},
		}
		told := 0
		for range 60 {
			c.submit(&ending{deposit: new(cache.Deposit), told: func() { told++ }})
			time.Sleep(time.Millisecond)
		}
		time.Sleep(4 * syncWithin)
		c.close()
		if told != 60 || len(stored) != 60 {
			t.Errorf("%d of 60 were told, %d stored", told, len(stored))
		}
		if len(prepared) < 40 || len(rounds) > 20 {
			t.Errorf("of 60 %d were prepared ahead, in rounds of %v", len(prepared), rounds)
		}
	})
}
