package record

import (
	"net"
	"strconv"
)

// SumHeader is the header of AppendText of a Sum, its cells separated by tabs.
const SumHeader = "FROM\tTO\tVERDICT\tFLOWS\tSENT\tRECEIVED\tWHY\n"

// AppendText appends a Sum as one line for people, its cells separated by tabs.
func (s *Sum) AppendText(b []byte) []byte {
	from := s.Workload
	if s.Namespace != "" {
		from = s.Namespace + "/" + from
	}
	if from == "" {
		from = Other
	}
	to := s.Host
	if s.Port != 0 {
		to = net.JoinHostPort(s.Host, strconv.Itoa(int(s.Port)))
	}
	why := string(s.Reason)
	if why == "" {
		why = s.Rule
	}
	if why == "" {
		why = "-"
	}
	for _, cell := range []string{from, to, s.Verdict.String()} {
		b = append(appendPlain(b, cell), '\t')
	}
	b = append(strconv.AppendInt(b, s.Count, 10), '\t')
	b = append(appendBytes(b, s.Sent), '\t')
	b = append(appendBytes(b, s.Received), '\t')
	return append(appendPlain(b, why), '\n')
}
