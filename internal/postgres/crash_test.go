package postgres_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"scanlogin/internal/login"
	"scanlogin/internal/postgres/postgrestest"
)

// What was answered before a crash of PostgreSQL is true after it: no code is on two
// screens, no scene is held twice, no scan and no session is forgotten. fsync is off, as
// in all tests: what a server has written survives its own end without it, though not the
// machine's. All else that decides what a commit waits for is as PostgreSQL has it.
func TestACrashOfPostgreSQLLosesNothing(t *testing.T) {
	t.Parallel()
	const rounds = 5
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	server := postgrestest.NewServer(t, nil)
	c := newCrowd(worldOn(t, 300, server), 16)
	c.start()
	for range rounds {
		c.awaitSum(random.Int64N(200))
		server.Crash()
		server = postgrestest.Restart(t, server)
		c.await(1) // everybody goes on by himself
	}
	wantNothingLost(t, c)
}

// The same with commits that don't wait loses all of that: the test above would notice.
func TestACrashWithoutDurabilityIsNoticed(t *testing.T) {
	t.Parallel()
	const scenes = 8
	server := postgrestest.NewServer(t, map[string]string{"synchronous_commit": "off", "wal_writer_delay": "10s"})
	c := newCrowd(worldOn(t, scenes, server), 1)
	c.ok(c.makeCodes(t.Context()))
	// All of this is written. Of what follows nothing is, before the crash: it doesn't
	// fill a page of the WAL.
	c.exec("CHECKPOINT")
	c.exec("SELECT pg_switch_wal()")
	begin := func() (l login.Login) {
		await(t, "a claim", func() (ok bool) { l, ok = c.begin(); return ok })
		return l
	}
	for range scenes - 1 {
		begin()
	}
	c.logIn(c.people[0], begin())
	server.Crash()
	postgrestest.Restart(t, server)
	for range scenes {
		begin()
	}
	lost := strings.Join(c.finish(), "\n")
	for what, n := range map[string]int{`code "ready`: scenes, "is held by": scenes - 1, "a session of account": 1} {
		if got := strings.Count(lost, what); got != n {
			t.Errorf("%q is said %d times, want %d:\n%s", what, got, n, lost)
		}
	}
}
