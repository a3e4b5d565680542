package devpg

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// runAs is the user that PostgreSQL runs as when we are root, whom it refuses.
// Nil is ourselves: its methods then do what is right for that.
type runAs struct {
	name string
	cred syscall.Credential
}

// whoRuns returns the owner of the data where it exists, else the user
// postgres, else nobody; nil when we aren't root.
func whoRuns(data string) (*runAs, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	if info, err := os.Stat(data); err == nil {
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Uid != 0 {
			return newRunAs(user.LookupId(strconv.FormatUint(uint64(stat.Uid), 10)))
		}
	}
	found, err := user.Lookup("postgres")
	if err != nil {
		found, err = user.Lookup("nobody")
	}
	return newRunAs(found, err)
}

func newRunAs(u *user.User, err error) (*runAs, error) {
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL refuses to run as root, and there is no other user for it: %w", err)
	}
	groups, err := u.GroupIds()
	if err != nil {
		return nil, err
	}
	var ids []uint32
	for _, id := range append([]string{u.Uid, u.Gid}, groups...) {
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return nil, err
		}
		ids = append(ids, uint32(n))
	}
	return &runAs{name: u.Username, cred: syscall.Credential{Uid: ids[0], Gid: ids[1], Groups: ids[2:]}}, nil
}

func (r *runAs) credential() *syscall.Credential {
	if r == nil {
		return nil
	}
	return &r.cred
}

// own gives the folder to the user, and to nobody else.
func (r *runAs) own(dir string) error {
	return errors.Join(os.Chmod(dir, 0o700), r.give(dir))
}

// give makes the user the owner.
func (r *runAs) give(path string) error {
	if r == nil {
		return nil
	}
	return os.Chown(path, int(r.cred.Uid), int(r.cred.Gid))
}

// reaches says which folder on the way to one of dirs the user can't enter.
func (r *runAs) reaches(dirs ...string) error {
	if r == nil {
		return nil
	}
	for _, dir := range dirs {
		for at := dir; ; at = filepath.Dir(at) {
			info, err := os.Stat(at)
			if err != nil {
				return err
			}
			if !r.enters(info) {
				return fmt.Errorf("PostgreSQL refuses to run as root, so it runs as the user %s, who can't enter %s (%s) on the way to %s: "+
					"choose another folder, or run as yourself", r.name, at, info.Mode(), dir)
			}
			if at == filepath.Dir(at) {
				break
			}
		}
	}
	return nil
}

func (r *runAs) enters(dir os.FileInfo) bool {
	stat, ok := dir.Sys().(*syscall.Stat_t)
	switch {
	case !ok:
		return true
	case stat.Uid == r.cred.Uid:
		return dir.Mode()&0o100 != 0
	case stat.Gid == r.cred.Gid || slices.Contains(r.cred.Groups, stat.Gid):
		return dir.Mode()&0o010 != 0
	default:
		return dir.Mode()&0o001 != 0
	}
}
