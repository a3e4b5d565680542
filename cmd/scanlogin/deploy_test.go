package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"scanlogin/internal/config"
)

// service is a service of compose.yaml, as the Compose Specification's own library reads it.
type service struct {
	Image       string
	Command     []string
	Environment map[string]string
	Profiles    []string
	Networks    map[string]any
	Ports       []struct {
		Target int
		HostIP string `json:"host_ip"`
	}
	DependsOn map[string]any `json:"depends_on"`
}

// live is what .env has to hold.
func live() map[string]string {
	return map[string]string{
		"POSTGRES_PASSWORD": "secret", "WECHAT_APP_ID": "wx0123456789abcdef", "WECHAT_APP_SECRET": "secret", "WECHAT_TOKEN": "token",
		"WECHAT_ENCODING_AES_KEY": "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG", "PUBLIC_URL": "https://login.example.com",
	}
}

// compose reads compose.yaml by the schema of the Compose Specification, with what .env says.
func compose(t *testing.T, env map[string]string) map[string]service {
	t.Helper()
	cmd := exec.Command("go", "tool", "-modfile=internal/tools/manifests/go.mod",
		"github.com/compose-spec/compose-go/v2/cmd", "-no-interpolation", "-format", "json", "compose.yaml")
	cmd.Dir = "../.."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("compose.yaml: %v\n%s", err, &stderr)
	}
	var file struct{ Services map[string]service }
	if err := json.Unmarshal(out, &file); err != nil {
		t.Fatal(err)
	}
	variable := regexp.MustCompile(`\$\{([A-Z_]+):-([^}]*)\}`)
	for _, s := range file.Services {
		for name, value := range s.Environment {
			value = variable.ReplaceAllStringFunc(value, func(v string) string {
				parts := variable.FindStringSubmatch(v)
				return cmp.Or(env[parts[1]], parts[2])
			})
			if strings.Contains(value, "$") {
				t.Errorf("%s=%s: what is this?", name, value)
			}
			s.Environment[name] = value
		}
	}
	return file.Services
}

// load reads a service's settings as the program would.
func (s service) load(t *testing.T) error {
	t.Helper()
	command := append(slices.Clone(s.Command), "serve")[0] // as the Dockerfile says
	c, ok := commands(command)
	if !ok {
		t.Fatalf("no command %q", command)
	}
	flags := flag.NewFlagSet(command, flag.ContinueOnError)
	if c.flags != nil {
		c.flags(flags)
	}
	args := s.Command
	if len(args) > 0 {
		args = args[1:]
	}
	for name := range s.Environment {
		if !isSetting(name) {
			t.Errorf("%s is no setting", name)
		}
	}
	_, _, err := config.Load(c.groups, func(name string) (string, bool) {
		value, ok := s.Environment[name]
		return value, ok
	}, flags, args)
	return err
}

func isSetting(name string) bool {
	return slices.ContainsFunc(config.Settings(), func(s config.Setting) bool { return s.Name == name })
}

func TestComposeSettingsAreUnderstood(t *testing.T) {
	ours := 0
	for name, s := range compose(t, live()) {
		if len(s.Profiles) != 1 {
			t.Errorf("%s is in the profiles %q: the demo is nothing of what is live", name, s.Profiles)
		}
		if s.Image != "scanlogin" {
			continue
		}
		ours++
		if err := s.load(t); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, p := range s.Ports {
			if p.Target != 8090 || p.HostIP != "127.0.0.1" {
				t.Errorf("%s publishes port %d at %q: the balancer alone is for others", name, p.Target, p.HostIP)
			}
		}
		if ops := s.Environment["OPS_ADDR"]; ops != ":9090" && name != "migrate" {
			t.Errorf("%s: OPS_ADDR %q, where the balancer asks :9090", name, ops)
		}
	}
	if ours < 5 {
		t.Errorf("%d services run scanlogin, want two instances each and the demo's WeChat", ours)
	}
}

func TestComposeDemoSharesNothing(t *testing.T) {
	services := compose(t, nil)
	for name, s := range services {
		demo := slices.Contains(s.Profiles, "demo")
		if _, inside := s.Networks["demo"]; inside != demo || demo && len(s.Networks) != 1 {
			t.Errorf("%s of %q is in the networks %v", name, s.Profiles, s.Networks)
		}
		for other := range s.DependsOn {
			if !slices.Equal(services[other].Profiles, s.Profiles) {
				t.Errorf("%s of %q depends on %s of %q", name, s.Profiles, other, services[other].Profiles)
			}
		}
		if s.Image == "scanlogin" {
			err := s.load(t)
			if demo && err != nil {
				t.Errorf("the demo needs settings: %s: %v", name, err)
			}
			if _, ok := errors.AsType[*config.SettingError](err); !demo && !ok && name != "migrate" {
				t.Errorf("%s starts without any secret: %v", name, err)
			}
		}
	}
}

// manifest is what is checked of a Kubernetes object here. Its fields themselves are checked by
// kubectl-validate: make lint.
type manifest struct {
	Kind     string
	Metadata struct{ Name string }
	Data     map[string]string `yaml:"data"`
	Secrets  map[string]string `yaml:"stringData"`
	Spec     struct {
		Template struct {
			Metadata struct {
				Labels      map[string]string
				Annotations map[string]string
			}
			Spec struct {
				Grace      int `yaml:"terminationGracePeriodSeconds"`
				Containers []container
			}
		}
		Selector    yaml.Node
		PodSelector struct {
			Labels map[string]string `yaml:"matchLabels"`
		} `yaml:"podSelector"`
		Target struct{ Kind, Name string } `yaml:"scaleTargetRef"`
		Ports  []struct {
			TargetPort string `yaml:"targetPort"`
		}
	}
}

type container struct {
	Image   string
	Args    []string
	EnvFrom []struct {
		ConfigMap struct{ Name string } `yaml:"configMapRef"`
		Secret    struct{ Name string } `yaml:"secretRef"`
	} `yaml:"envFrom"`
	Ports []struct {
		Name string
		Port int `yaml:"containerPort"`
	}
	Startup   probe `yaml:"startupProbe"`
	Liveness  probe `yaml:"livenessProbe"`
	Readiness probe `yaml:"readinessProbe"`
	Lifecycle struct {
		PreStop struct{ Sleep struct{ Seconds int } } `yaml:"preStop"`
	}
}

type probe struct {
	Get struct{ Path, Port string } `yaml:"httpGet"`
}

func deployFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("../../docs/deploy/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func manifests(t *testing.T) map[string]manifest {
	t.Helper()
	all := map[string]manifest{}
	for dec := yaml.NewDecoder(bytes.NewReader(deployFile(t, "kubernetes.yaml"))); ; {
		var m manifest
		if err := dec.Decode(&m); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all[m.Kind] = m
		if m.Kind == "Secret" { // there are two, each for some
			all["Secret "+m.Metadata.Name] = m
		}
	}
}

func TestKubernetesManifestsFitTogether(t *testing.T) {
	all := manifests(t)
	deployment := all["Deployment"].Spec.Template
	instance := deployment.Spec.Containers[0]
	for kind, m := range all {
		for _, c := range m.Spec.Template.Spec.Containers {
			s := service{Command: c.Args, Environment: map[string]string{}}
			for _, from := range c.EnvFrom {
				values := all["Secret "+from.Secret.Name].Secrets
				if from.ConfigMap.Name != "" {
					values = all["ConfigMap"].Data
				}
				if len(values) == 0 {
					t.Errorf("%s: no settings in %q", kind, from.ConfigMap.Name+from.Secret.Name)
				}
				maps.Copy(s.Environment, values)
			}
			if c.Image != instance.Image {
				t.Errorf("%s runs %s, the instances %s", kind, c.Image, instance.Image)
			}
			if err := s.load(t); err != nil {
				t.Errorf("%s: %v", kind, err)
			}
			if _, owner := s.Environment["DATABASE_SERVICE_ROLE"]; owner != (kind == "Job") {
				t.Errorf("%s: settings of whoever owns the tables: %v", kind, owner)
			}
		}
	}

	ports := map[string]int{}
	for _, p := range instance.Ports {
		ports[p.Name] = p.Port
	}
	if ops := all["ConfigMap"].Data["OPS_ADDR"]; ports["ops"] != 9090 || ops != ":9090" || ports["http"] != 8080 {
		t.Errorf("ports %v, OPS_ADDR %s", ports, ops)
	}
	if a := deployment.Metadata.Annotations["prometheus.io/port"]; a != "9090" {
		t.Errorf("Prometheus asks port %s", a)
	}
	for path, p := range map[string]probe{"/healthz": instance.Liveness, "/readyz": instance.Readiness} {
		if p.Get.Path != path || p.Get.Port != "ops" {
			t.Errorf("a probe of %s at %s, want %s at ops", p.Get.Path, p.Get.Port, path)
		}
	}
	if instance.Startup.Get != instance.Liveness.Get {
		t.Error("the start is probed by something else than liveness")
	}
	stop := time.Duration(deployment.Spec.Grace-instance.Lifecycle.PreStop.Sleep.Seconds) * time.Second
	if stop < requestsEnd+databaseLetsGo+time.Second {
		t.Errorf("%v are left for a shutdown", stop)
	}

	label := deployment.Metadata.Labels["app"]
	for _, kind := range []string{"Service", "Deployment", "PodDisruptionBudget"} {
		var selector struct {
			App    string
			Labels map[string]string `yaml:"matchLabels"`
		}
		s := all[kind].Spec.Selector
		if err := s.Decode(&selector); err != nil {
			t.Fatal(err)
		}
		if label == "" || selector.App+selector.Labels["app"] != label {
			t.Errorf("%s selects %+v", kind, selector)
		}
	}
	if all["NetworkPolicy"].Spec.PodSelector.Labels["app"] != label || all["Job"].Spec.Template.Metadata.Labels["app"] == label {
		t.Error("the NetworkPolicy selects something else than the instances, or the Service the Job as well")
	}
	if p := all["Service"].Spec.Ports; len(p) != 1 || p[0].TargetPort != "http" {
		t.Errorf("the Service leads to %v", p)
	}
	if target := all["HorizontalPodAutoscaler"].Spec.Target; target.Kind != "Deployment" || target.Name != all["Deployment"].Metadata.Name {
		t.Errorf("scaled is %v", target)
	}
}

// traefik is what the examples may use of Traefik's settings, as its documentation spells them:
// there is no Traefik here to ask.
type traefik struct {
	EntryPoints map[string]struct {
		Address string
		HTTP    struct {
			Redirections struct {
				EntryPoint struct{ To, Scheme string } `yaml:"entryPoint"`
			}
		} `yaml:"http"`
		Transport struct {
			RespondingTimeouts struct {
				ReadTimeout time.Duration `yaml:"readTimeout"`
			} `yaml:"respondingTimeouts"`
		}
		ForwardedHeaders struct {
			TrustedIPs []string `yaml:"trustedIPs"`
		} `yaml:"forwardedHeaders"`
	} `yaml:"entryPoints"`
	Providers struct {
		File struct {
			Filename string
			Watch    bool
		}
	}
	CertificatesResolvers map[string]struct {
		ACME struct {
			Email, Storage string
			HTTPChallenge  struct {
				EntryPoint string `yaml:"entryPoint"`
			} `yaml:"httpChallenge"`
		} `yaml:"acme"`
	} `yaml:"certificatesResolvers"`
}

type traefikDynamic struct {
	HTTP struct {
		Routers map[string]struct {
			EntryPoints   []string `yaml:"entryPoints"`
			Rule, Service string
			Middlewares   []string
			TLS           struct {
				CertResolver string `yaml:"certResolver"`
			} `yaml:"tls"`
		}
		Middlewares map[string]struct {
			ForwardAuth struct {
				Address             string
				AuthResponseHeaders []string `yaml:"authResponseHeaders"`
			} `yaml:"forwardAuth"`
			Retry struct {
				Attempts        int
				InitialInterval time.Duration `yaml:"initialInterval"`
			}
		}
		Services map[string]struct {
			LoadBalancer struct {
				ServersTransport string `yaml:"serversTransport"`
				HealthCheck      struct {
					Path              string
					Port              int
					Interval, Timeout time.Duration
				} `yaml:"healthCheck"`
				Servers []struct{ URL string } `yaml:"servers"`
			} `yaml:"loadBalancer"`
		}
		ServersTransports map[string]struct {
			ForwardingTimeouts struct {
				DialTimeout     time.Duration `yaml:"dialTimeout"`
				IdleConnTimeout time.Duration `yaml:"idleConnTimeout"`
			} `yaml:"forwardingTimeouts"`
		} `yaml:"serversTransports"`
	} `yaml:"http"`
}

// strictly refuses what v has no field for.
func strictly(t *testing.T, name string, v any) {
	t.Helper()
	dec := yaml.NewDecoder(bytes.NewReader(deployFile(t, name)))
	dec.KnownFields(true)
	if err := dec.Decode(v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func TestTraefikFilesFitTogether(t *testing.T) {
	var static traefik
	var dynamic traefikDynamic
	strictly(t, "traefik.yaml", &static)
	strictly(t, "traefik-dynamic.yaml", &dynamic)
	if got := filepath.Base(static.Providers.File.Filename); got != "traefik-dynamic.yaml" {
		t.Errorf("the dynamic part is in %s", got)
	}
	for name, r := range dynamic.HTTP.Routers {
		if _, ok := dynamic.HTTP.Services[r.Service]; !ok {
			t.Errorf("%s leads to %q", name, r.Service)
		}
		for _, m := range r.Middlewares {
			if _, ok := dynamic.HTTP.Middlewares[m]; !ok {
				t.Errorf("%s goes through %q", name, m)
			}
		}
		for _, e := range r.EntryPoints {
			if _, ok := static.EntryPoints[e]; !ok {
				t.Errorf("%s comes in at %q", name, e)
			}
		}
		if _, ok := static.CertificatesResolvers[r.TLS.CertResolver]; !ok && r.TLS.CertResolver != "" {
			t.Errorf("%s gets a certificate from %q", name, r.TLS.CertResolver)
		}
	}
	app := dynamic.HTTP.Routers["app"]
	auth := dynamic.HTTP.Middlewares[app.Middlewares[0]].ForwardAuth
	if auth.Address != "http://"+static.EntryPoints["auth"].Address+"/auth/verify?redirect" ||
		!slices.Equal(auth.AuthResponseHeaders, []string{"X-Auth-User", "X-Auth-User-Id"}) {
		t.Errorf("the app is guarded by %+v", auth)
	}
	lb := dynamic.HTTP.Services["scanlogin"].LoadBalancer
	if _, ok := dynamic.HTTP.ServersTransports[lb.ServersTransport]; !ok || lb.HealthCheck.Path != "/readyz" || lb.HealthCheck.Port != 9090 || len(lb.Servers) != 2 {
		t.Errorf("scanlogin is %+v", lb)
	}
}
