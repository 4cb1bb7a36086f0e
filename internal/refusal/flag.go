package refusal

// Flag returns the short word by which logs and metrics tell failures apart: Envoy's
// response flag where there is one that means the same, "" for no Reason. Every Reason
// has one.
func (r Reason) Flag() string {
	switch r {
	case "":
		return ""
	case NoRoute:
		return "NR"
	case NoSuchName, NoAddress, ResolveFailed, TooManyNames, DNSType:
		return "DF" // DNS resolution failed
	case ConnectRefused, ConnectTimeout, ConnectFailed, UpstreamConnect, UpstreamTLS, CertificateFail,
		ViaProxyUnreachable, ViaProxyRefused, ViaProxyAuthentication, ViaProxyFailed, ViaProxyAnswer:
		return "UF" // upstream connection failure
	case UpstreamReset:
		return "UC" // upstream connection termination
	case UpstreamTimeout, DecisionTimeout:
		return "UT" // upstream request timeout
	case UpstreamProtocol:
		return "UPE"
	case NoHealthyUpstream, NoSuchPort:
		return "UH"
	case FaultInjected:
		return "FI" // fault injected
	case Overflow, CircuitBreaker:
		return "UO" // upstream overflow
	case ClientGone, ClientStalled:
		return "DC" // downstream connection termination
	case RequestTimeout:
		return "SI" // stream idle timeout
	case Withdrawn, Stopping:
		return "LR" // local reset
	case Internal:
		return "INT"
	}
	switch r.Group() {
	case ByMessage:
		return "DPE" // downstream protocol error
	default:
		return "DENY"
	}
}
