package api

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"sluice.dev/sluice/api/istio"
	"sluice.dev/sluice/api/networking"
	"sluice.dev/sluice/api/v1alpha1"
)

// What to write in the place of kinds that are not served here.
const (
	writeEgressPolicy = "to let workloads reach a host, write an EgressPolicy (apiVersion " + v1alpha1.Group + "/" + v1alpha1.Version + ", spec.to.hosts and spec.to.ports)"
	writeRouteRule    = "to route calls inside the mesh, write a RouteRule (apiVersion " + istio.Group + "/" + istio.Version + ")"
	writeMeshService  = "to name a service of the mesh, write a MeshService (apiVersion " + v1alpha1.Group + "/" + v1alpha1.Version + ")"
	startIngress      = "the way in is an Ingress (apiVersion " + networking.Group + "/" + networking.Version + ") or an IngressRule (apiVersion " + istio.Group + "/" + istio.Version + "), and sluice-proxy --ingress HOST:PORT serves it"
	startWorkload     = "workloads are no objects here: start one with sluice run --service NAME --listen PORT -- COMMAND"
	denialIsDefault   = "what no EgressPolicy or EgressRule allows is denied, so a rule that denies is not needed"
	seeLogs           = "sluice flows shows who went where; sluice-proxy --access-log FILE writes a line of each request, or sends it to the collector of --otlp URL"
	seeMetrics        = "sluice-proxy --metrics HOST:PORT is for Prometheus; with --otlp URL they are sent to a collector"
	seeTraces         = "spec.telemetry.tracing of the MeshConfig samples traces, sluice-proxy --otlp URL sends them to a collector"
	laterPolicy       = "the policies of Mixer are not supported yet"
	seeAll            = "; sluice get all -A shows every rule in force"
	seeStatus         = "sluice status shows the workloads, and which rules each of them runs"
	laterAccess       = "who may call whom inside the mesh is not supported yet"
	laterQuota        = "quotas are not supported yet; spec.limits of the MeshConfig bounds connections"
)

// foreign says of kinds that people know from elsewhere what to write here, by the
// kind in lower case.
var foreign = map[string]string{
	// Istio, as it is today.
	"serviceentry": writeEgressPolicy, "sidecar": writeEgressPolicy,
	"virtualservice": writeRouteRule, "workloadentry": startWorkload, "workloadgroup": startWorkload,
	"destinationrule":     "subsets are the labels of a RouteRule's route, load balancing is a DestinationPolicy (apiVersion " + istio.Group + "/" + istio.Version + "), TLS to the outside is spec.tls of an EgressPolicy",
	"gateway":             startIngress + "; a way out needs no gateway: " + writeEgressPolicy,
	"authorizationpolicy": laterAccess + "; for the way out: " + writeEgressPolicy,
	"peerauthentication":  laterAccess, "requestauthentication": laterAccess,
	"telemetry": seeLogs + "; " + seeMetrics + "; " + seeTraces, "envoyfilter": "there is no Envoy here; " + writeEgressPolicy,
	// Kubernetes, and what runs on it.
	"httproute": writeRouteRule, "grpcroute": writeRouteRule, "tcproute": writeRouteRule, "tlsroute": writeRouteRule,
	"gatewayclass": startIngress, "ingressclass": startIngress,
	"networkpolicy": writeEgressPolicy, "adminnetworkpolicy": writeEgressPolicy, "globalnetworkpolicy": writeEgressPolicy,
	"ciliumnetworkpolicy":            "toFQDNs and toCIDR are spec.to.hosts and spec.to.cidrs here: " + writeEgressPolicy,
	"ciliumclusterwidenetworkpolicy": "toFQDNs and toCIDR are spec.to.hosts and spec.to.cidrs here; in the namespace sluice-system they hold for all: " + writeEgressPolicy,
	"service":                        writeMeshService, "endpoints": writeMeshService, "endpointslice": writeMeshService,
	"deployment": startWorkload, "pod": startWorkload, "statefulset": startWorkload, "daemonset": startWorkload, "replicaset": startWorkload, "job": startWorkload, "cronjob": startWorkload,
	"namespace":      "a namespace is there as soon as an object names it",
	"serviceaccount": "a workload says its own with sluice run --service-account, and spec.from.serviceAccounts of an EgressPolicy selects by it",
	"configmap":      "settings of the mesh are the MeshConfig named default",
	"node":           seeStatus,
	"flow":           "sluice flows shows who went where",
	"secret":         "client certificates are files below --client-certificates of sluice-proxy",
	// Istio 0.5.
	"externalservice": writeEgressPolicy,
	"v1alpha2policy":  laterAccess, "policy": laterAccess, "meshpolicy": laterAccess, "rbacconfig": laterAccess, "servicerole": laterAccess, "servicerolebinding": laterAccess, "rbac": laterAccess, "authorization": laterAccess,
	"enduserauthenticationpolicyspec": laterAccess, "enduserauthenticationpolicyspecbinding": laterAccess,
	"httpapispec": laterPolicy, "httpapispecbinding": laterPolicy, "apikey": laterPolicy,
	"rule": laterPolicy + seeAll, "attributemanifest": laterPolicy, "checknothing": laterPolicy, "opa": laterPolicy, "servicecontrol": laterPolicy, "servicecontrolreport": laterPolicy, "noop": laterPolicy, "bypass": laterPolicy, "handler": laterPolicy, "instance": laterPolicy, "adapter": laterPolicy, "template": laterPolicy,
	"denier": denialIsDefault, "listchecker": denialIsDefault, "listentry": denialIsDefault,
	"quota": laterQuota, "memquota": laterQuota, "redisquota": laterQuota, "quotaspec": laterQuota, "quotaspecbinding": laterQuota,
	"metric": seeMetrics, "prometheus": seeMetrics, "statsd": seeMetrics, "circonus": seeMetrics, "solarwinds": seeMetrics, "tracespan": seeTraces,
	"logentry": seeLogs, "reportnothing": seeLogs, "stdio": seeLogs, "fluentd": seeLogs, "stackdriver": seeLogs, "edge": seeLogs,
	"kubernetesenv": "workloads say their labels with sluice run --label", "kubernetes": "workloads say their labels with sluice run --label",
}

// shortForms are those of kubectl for foreign kinds, and words for what is here no kind.
var shortForms = map[string]string{
	"se": "serviceentry", "vs": "virtualservice", "dr": "destinationrule", "gw": "gateway", "ap": "authorizationpolicy", "pa": "peerauthentication", "ra": "requestauthentication", "we": "workloadentry", "wg": "workloadgroup",
	"netpol": "networkpolicy", "cnp": "ciliumnetworkpolicy", "ciliumnp": "ciliumnetworkpolicy", "ccnp": "ciliumclusterwidenetworkpolicy", "gc": "gatewayclass", "anp": "adminnetworkpolicy",
	"deploy": "deployment", "po": "pod", "sts": "statefulset", "ds": "daemonset", "rs": "replicaset", "cj": "cronjob", "rc": "replicaset", "replicationcontroller": "replicaset",
	"svc": "service", "ns": "namespace", "cm": "configmap", "sa": "serviceaccount",
	"workload": "node", "proxy": "node", "no": "node", "event": "flow", "ev": "flow",
}

// insteadOf says what to write for a kind or a word for its objects, "" where nothing
// is known of it.
func insteadOf(word string) string {
	lower := strings.ToLower(word)
	for _, singular := range []string{lower, strings.TrimSuffix(lower, "s"), strings.TrimSuffix(lower, "es"), strings.TrimSuffix(lower, "ies") + "y"} {
		if full := shortForms[singular]; full != "" {
			singular = full
		}
		if text := foreign[singular]; text != "" {
			return text
		}
	}
	return ""
}

// nearKind returns the kind that somebody meant who wrote another a letter or two
// away, or in other case, nil where there is none.
func nearKind(name string) *Kind {
	i := slices.IndexFunc(kinds, func(k *Kind) bool { return closeTo(strings.ToLower(name), strings.ToLower(k.Name)) })
	if i < 0 {
		return nil
	}
	return kinds[i]
}

// unknownKind is the error of a kind that is not served; where says why in its own words.
func unknownKind(kind, where string) error {
	text := fmt.Sprintf("kind %s is not known", kind)
	if instead := insteadOf(kind); instead != "" {
		return fmt.Errorf("%s: %s", text, instead)
	}
	if near := nearKind(kind); near != nil {
		return fmt.Errorf("%s: do you mean %s?", text, near.Name)
	}
	return errors.New(text + where)
}

// closeTo reports whether at most two letters are to be added, left out or changed to
// make one word of another.
func closeTo(a, b string) bool { return Distance(a, b) <= 2 }

// Distance is how many letters are to be added, left out or changed to make one word
// of another (Levenshtein).
func Distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			changed := diagonal
			if a[i] != b[j] {
				changed++
			}
			diagonal = row[j+1]
			row[j+1] = min(changed, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
