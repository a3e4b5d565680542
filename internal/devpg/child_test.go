package devpg

import (
	"context"
	"fmt"
)

// childDir makes the test binary a program that starts a server in that folder,
// prints its process id and URL, and waits to be killed.
const childDir = "DEVPG_TEST_CHILD_DIR"

func child(dir string) (code int) {
	s, err := Start(context.Background(), Config{Dir: dir, Fast: true})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(s.cmd.Process.Pid, s.URL("postgres"))
	<-s.Done()
	return 1
}
