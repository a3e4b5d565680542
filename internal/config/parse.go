package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
)

// parsers says how to read each type of [Config]. Their errors are the rest
// of a sentence that begins with the setting's name.
func parsers() map[reflect.Type]env.ParserFunc {
	return map[reflect.Type]env.ParserFunc{
		reflect.TypeFor[time.Duration]():  anyOf(parseDuration),
		reflect.TypeFor[int32]():          anyOf(parseNumber),
		reflect.TypeFor[bool]():           anyOf(parseSwitch),
		reflect.TypeFor[Rate]():           anyOf(parseRate),
		reflect.TypeFor[url.URL]():        anyOf(parseBase),
		reflect.TypeFor[[]netip.Prefix](): anyOf(parsePrefixes),
		reflect.TypeFor[[]string]():       anyOf(parseOrigins),
	}
}

func anyOf[T any](parse func(string) (T, error)) env.ParserFunc {
	return func(s string) (any, error) { return parse(s) }
}

func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("is %s, which is not a duration such as 90s, 3m or 720h", shown(s))
	}
	return d, nil
}

func parseNumber(s string) (int32, error) {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("is %s, which is not a whole number in range", shown(s))
	}
	return int32(n), nil
}

// Rate is so many at once, and so many in each Per after that. The zero value is off.
type Rate struct {
	Burst int32
	Per   time.Duration
}

// What a limit can be. A burst beyond that limits nobody, and what runs longer is no rate.
const (
	maxBurst = 1_000_000
	maxPer   = 30 * 24 * time.Hour
)

func parseRate(s string) (Rate, error) {
	if strings.EqualFold(s, "off") {
		return Rate{}, nil
	}
	burst, per, _ := strings.Cut(s, "/")
	n, errBurst := strconv.ParseInt(burst, 10, 32)
	d, errPer := time.ParseDuration(per)
	if errBurst != nil || errPer != nil || n < 1 || n > maxBurst || d < time.Second || d > maxPer {
		return Rate{}, fmt.Errorf("is %s, which is neither a number and a duration such as 60/1m nor off", shown(s))
	}
	return Rate{int32(n), d}, nil
}

func parseSwitch(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "on":
		return true, nil
	case "off":
		return false, nil
	default:
		return false, fmt.Errorf("is %s, which is neither on nor off", shown(s))
	}
}

// parsePrefixes reads CIDRs and single addresses, with commas or spaces
// between them.
func parsePrefixes(s string) ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	for _, item := range items(s) {
		p, err := parsePrefix(item)
		if err != nil {
			return nil, fmt.Errorf("has %s, which is neither an IP address nor a CIDR", shown(item))
		}
		prefixes = append(prefixes, p)
	}
	return prefixes, nil
}

// parsePrefix writes IPv4 as IPv4, also where it is mapped into IPv6, and
// drops zones, so that prefixes compare with peers' unmapped addresses.
func parsePrefix(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		addr, err := netip.ParseAddr(s)
		addr = addr.Unmap().WithZone("")
		return netip.PrefixFrom(addr, addr.BitLen()), err
	}
	p, err := netip.ParsePrefix(s)
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), err
}

// parseOrigins reads origins with commas or spaces between them and writes
// them as browsers do.
func parseOrigins(s string) ([]string, error) {
	var origins []string
	for _, item := range items(s) {
		u, err := parseOrigin(item)
		if err != nil {
			return nil, fmt.Errorf("has %s, %w", shown(item), err)
		}
		origins = append(origins, u.Scheme+"://"+u.Host)
	}
	return origins, nil
}

// items splits a list at commas and spaces.
func items(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(", \t\r\n", r) })
}

// parseBase reads an http or https URL, with a path at most.
func parseBase(s string) (url.URL, error) {
	u, err := parseHTTP(s)
	if err != nil {
		return url.URL{}, fmt.Errorf("is %s, %w", shown(s), err)
	}
	return u, nil
}

// parseOrigin reads a URL that is nothing but an origin.
func parseOrigin(s string) (url.URL, error) {
	u, err := parseHTTP(s)
	if err != nil {
		return url.URL{}, err
	}
	if u.Path != "" {
		return url.URL{}, errPath
	}
	return u, nil
}

// What is wrong with a URL, after the URL.
var (
	errURL      = errors.New("which is not a URL")
	errScheme   = errors.New("which doesn't begin with http:// or https://")
	errUserinfo = errors.New("which holds a user or a password")
	errQuery    = errors.New("which holds a query or a fragment")
	errHost     = errors.New("which has no valid host (write other letters in punycode, xn--…)")
	errPort     = errors.New("which has no valid port")
	errPath     = errors.New("which holds a path; only scheme, host and port belong there")
)

// parseHTTP reads scheme, host, port and path of an http or https URL and
// normalises them as browsers do: lower case, no port that is the scheme's
// own, and here also no slash at the end.
func parseHTTP(s string) (url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return url.URL{}, errURL // its own error quotes the text, which may hold a password
	case u.Scheme != "http" && u.Scheme != "https":
		return url.URL{}, errScheme
	case u.User != nil:
		return url.URL{}, errUserinfo
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return url.URL{}, errQuery
	case !validHost(u.Hostname()):
		return url.URL{}, errHost
	case u.Port() != "" && !validPort(u.Port(), 1):
		return url.URL{}, errPort
	}
	return url.URL{Scheme: u.Scheme, Host: hostPort(u), Path: strings.TrimRight(u.Path, "/")}, nil
}

// hostPort returns the host in lower case, with a port that isn't the
// scheme's own.
func hostPort(u *url.URL) string {
	host := strings.ToLower(strings.TrimSuffix(u.Host, ":"+u.Port()))
	if port := u.Port(); port != "" && port != map[string]string{"http": "80", "https": "443"}[u.Scheme] {
		host += ":" + port
	}
	return host
}

// validHost takes an IP address without a zone or a name of ASCII labels.
func validHost(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Zone() == ""
	}
	const label = `[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?`
	return len(host) <= 253 && regexp.MustCompile(`^`+label+`(\.`+label+`)*$`).MatchString(host)
}

func validPort(port string, least uint64) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n >= least
}

// shown quotes a value for an error, but neither what may hold a password nor
// more than a line of it.
func shown(value string) string {
	if strings.Contains(value, "@") {
		return "a value with @"
	}
	if runes := []rune(value); len(runes) > 60 {
		value = string(runes[:60]) + "…"
	}
	return strconv.Quote(value)
}
