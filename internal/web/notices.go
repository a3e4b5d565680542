package web

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"scanlogin/internal/account"
	"scanlogin/internal/login"
)

// maxNotices is more than a page shows.
const maxNotices = 1000

// shownNotice is something that has happened to an account, for its owner to read.
type shownNotice struct {
	ID   int64
	Text string
	From string // browser and place, as far as they are known
	At   time.Time
}

// notices is what this session's user is to read. What a newer version tells of is left to it.
func (s *Server) notices(r *http.Request, session account.Session) ([]shownNotice, error) {
	all, err := s.Accounts.Notices(r.Context(), session.User.ID)
	if err != nil {
		return nil, err
	}
	texts := textsFor(r)
	shown := make([]shownNotice, 0, len(all))
	for _, n := range all {
		if text := texts.notice(n.Kind); text != "" {
			shown = append(shown, shownNotice{n.ID, text, texts.from(n.Origin), n.At.UTC()})
		}
	}
	return shown, nil
}

// seen removes what the user says to have read: the person does, not whoever fetches the page
// ahead or in the background.
func (s *Server) seen(w http.ResponseWriter, r *http.Request) error {
	ids, err := readSeen(r)
	if err != nil {
		return err
	}
	session, err := s.session(r)
	if err != nil {
		return err
	}
	n, err := s.Accounts.SeenNotices(r.Context(), session.User.ID, ids)
	if err != nil {
		return err
	}
	if answersJSON(r) {
		return writeJSON(w, http.StatusOK, map[string]any{"status": true, "seen": n})
	}
	http.Redirect(w, r, homePath, http.StatusSeeOther)
	return nil
}

// readSeen reads which notices: in a form, as many fields of one name.
func readSeen(r *http.Request) ([]int64, error) {
	var in struct {
		IDs []int64 `json:"id"`
	}
	err := readBody(r, &in, func(form url.Values) error {
		for _, text := range form["id"] {
			id, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return err
			}
			in.IDs = append(in.IDs, id)
		}
		return nil
	})
	if err == nil && (len(in.IDs) == 0 || len(in.IDs) > maxNotices) {
		err = fmt.Errorf("%w: from 1 to %d ids", errMalformed, maxNotices)
	}
	return in.IDs, err
}

// Tells is what a phone is told of a notice; empty: nothing.
func (s *Server) Tells(n account.Notice) string {
	replies := map[account.NoticeKind]Reply{
		account.NoticeBound: ReplyToldBound, account.NoticeUnbound: ReplyToldUnbound, account.NoticePasswordChanged: ReplyToldPassword,
	}
	return s.say(replies[n.Kind], n.At.Unix(), login.Question{Origin: login.Origin{Browser: browserWords(n.Browser), Place: n.Place}})
}

// tellPhones has phones told of what was just done to an account; nobody waits for that.
func (s *Server) tellPhones() {
	if s.TellPhones != nil {
		s.TellPhones()
	}
}
