package login

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestWhatAnAnswerSays(t *testing.T) {
	t.Parallel()
	for what, texts := range map[reading][]string{
		aRefusal: {
			"0", "00", " 0。", "０", "不是我", "不是我!", "不是我扫的", "这不是我", "不是", "不", "非本人操作", "否", "取消", "拒绝", "我没扫",
			"no", "No.", "NO!", "n", "nope", "not me", "It wasn't me", "it wasn’t me", "ｎｏ", "Cancel", "decline", "stop",
		},
		otherWords: {"", "  ", "好", "是我", "是", "yes", "ok", "你好", "nonsense", "know", "notice", "4 2", "42 please", "？", "[微笑]"},
	} {
		for _, text := range texts {
			if got, number := (Answer{Text: text}).read(); got != what || number != "" {
				t.Errorf("%q is read as %d with %q, want %d", text, got, number, what)
			}
		}
	}
	for text, want := range map[string]string{"42": "42", " 42\n": "42", "４２": "42", "42。": "42", "“42”": "42", "042": "042", "10": "10", "100": "100", "123456": "123456"} {
		if got, number := (Answer{Text: text}).read(); got != aNumber || number != want {
			t.Errorf("%q is read as %d with %q, want the number %s", text, got, number, want)
		}
	}
}

func TestSecretsAreWhatThePageAndThePhoneSay(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 500 {
		for _, number := range ConfirmReply.newSecrets() {
			seen[number] = true
			if what, _ := (Answer{Text: number}).read(); what != aNumber || len(number) != 2 {
				t.Fatalf("%q can't be answered with", number)
			}
		}
		code := ConfirmCode.newSecrets()
		if len(code) != 1 || len(code[0]) != 6 || strings.Trim(code[0], "0123456789") != "" {
			t.Fatalf("codes %q", code)
		}
	}
	if len(seen) != 90 {
		t.Errorf("%d different numbers of 90", len(seen))
	}
}

func TestConfirmNames(t *testing.T) {
	t.Parallel()
	for c := ConfirmOff; c <= ConfirmCode; c++ {
		if back, ok := ParseConfirm(c.String()); !ok || back != c {
			t.Errorf("%v came back as %v", c, back)
		}
	}
	if c, ok := ParseConfirm("on"); ok || c != ConfirmOff {
		t.Errorf("on passes for %v", c)
	}
	for o := Stale; o <= WrongThrice; o++ {
		if back := ParseOutcome(o.String()); back != o {
			t.Errorf("%v came back as %v", o, back)
		}
	}
	if o := ParseOutcome("of a newer version"); o != Stale {
		t.Errorf("an unknown outcome passes for %v", o)
	}
}

// asking is a Store that is asked about answers alone.
type asking struct {
	Store

	pending bool
	verdict Verdict
	left    int
	err     error
	asked   []string
}

func (s *asking) AwaitsAnswer(context.Context, string) (bool, error) { return s.pending, s.err }

func (s *asking) Answer(_ context.Context, _ Answer, number string, bindTTL time.Duration) (Verdict, error) {
	if bindTTL != time.Minute {
		return Verdict{}, errors.New("a time to bind that nobody asked for")
	}
	s.asked = append(s.asked, number)
	return s.verdict, s.err
}

func (s *asking) ConfirmCode(_ context.Context, _ Ref, code string, _ time.Duration) (int, error) {
	s.asked = append(s.asked, code)
	return s.left, s.err
}

func (s *asking) service() (svc *Service, told *[]ID, log *bytes.Buffer) {
	told, log = new([]ID), new(bytes.Buffer)
	return &Service{
		Store: s, BindTTL: time.Minute, Logger: slog.New(slog.NewTextHandler(log, nil)),
		Notify: func(_ context.Context, id ID) error {
			*told = append(*told, id)
			return nil
		},
	}, told, log
}

func TestAnAnswerIsToldToAllItIsAbout(t *testing.T) {
	t.Parallel()
	ids := []ID{NewSecret().ID(), NewSecret().ID()}
	s := &asking{verdict: Verdict{Outcome: Refused, Changed: ids}}
	svc, told, log := s.service()
	v, err := svc.Answered(t.Context(), Answer{OpenID: "an openid", Text: "不是我"})
	if err != nil || v.Outcome != Refused || !slices.Equal(*told, ids) || !slices.Equal(s.asked, []string{""}) {
		t.Errorf("%+v, %v; told %v; asked %q", v, err, *told, s.asked)
	}
	if strings.Contains(log.String(), "an openid") || strings.Contains(log.String(), "不是我") {
		t.Error("the log says too much: " + log.String())
	}
	s.err = ErrNotAsked
	if _, err := svc.Answered(t.Context(), Answer{Text: "42"}); !errors.Is(err, ErrNotAsked) {
		t.Errorf("nobody is asked: %v", err)
	}
}

func TestOtherWordsCountForNothing(t *testing.T) {
	t.Parallel()
	s := &asking{pending: true}
	svc, told, _ := s.service()
	if v, err := svc.Answered(t.Context(), Answer{Text: "好的"}); err != nil || v.Outcome != WrongNumber {
		t.Errorf("%+v, %v", v, err)
	}
	s.pending = false
	if _, err := svc.Answered(t.Context(), Answer{Text: "好的"}); !errors.Is(err, ErrNotAsked) {
		t.Errorf("nobody is asked: %v", err)
	}
	s.err = errors.New("broken")
	if _, err := svc.Answered(t.Context(), Answer{Text: "好的"}); !errors.Is(err, s.err) {
		t.Errorf("%v, want the store's", err)
	}
	if len(s.asked) > 0 || len(*told) > 0 {
		t.Errorf("judged %q, told %v", s.asked, *told)
	}
}

func TestACodeIsToldWhereItChangesSomething(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		left int
		err  error
		told int
	}{{0, nil, 1}, {2, ErrCode, 0}, {0, ErrCode, 1}, {0, ErrNotAsked, 0}, {0, ErrEnded, 0}} {
		s := &asking{left: c.left, err: c.err}
		svc, told, log := s.service()
		left, err := svc.ConfirmCode(t.Context(), Key{Scene: 1, Secret: NewSecret()}, " １23456 ")
		if left != c.left || !errors.Is(err, c.err) || (err == nil) != (c.err == nil) || len(*told) != c.told {
			t.Errorf("%v: %d, %v, told %d", c.err, left, err, len(*told))
		}
		if !slices.Equal(s.asked, []string{"123456"}) || strings.Contains(log.String(), "123456") {
			t.Errorf("judged %q, logged %s", s.asked, log)
		}
	}
}
