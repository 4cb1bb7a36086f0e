package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/advice"
	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/rest"
	"sluice.dev/sluice/internal/wire"
)

// whyOptions are the flags of `sluice why`.
type whyOptions struct {
	from    string
	labels  []string
	account string
	method  string
	answers []string
	headers []string
	rules   ruleFlags
	output  string
}

func newWhyCommand() *cobra.Command {
	var o whyOptions
	cmd := &cobra.Command{
		Use:   "why URL | why ID | why RULE",
		Short: "Say whether a workload may go somewhere, and why",
		Long: `Says what would happen to a request: the verdict, the rule, what was proved by what, what cannot
be seen, and the smallest rule that would allow it, ready to paste. The server decides with the
proxy's own code on the snapshot that the workload's proxy acknowledged.

With an ID, which stands in a denial, a log line and in sluice flows, it says the same of that
decision, and what came of it, as long as its proxy keeps it (the last 4,096) or the server (the last
hour). It is decided again by the rules that were in force then, which the server keeps for 24 hours,
and by today's, and the difference is said. With the name of a rule, such as egress-rule/default/googleapis, it says what sluice describe does. With --rules, --allow
or --preset it needs no server and decides by those.

Of a call to a service of the mesh it says what the route rules do with it: which rule matches, where
the request goes by which share, its time-out and retries, and what else is done. --method, --header
and the path of the URL say what the request looks like.

DNS is not asked. --answer says what it is taken to answer for the name, and the verdict is then
that of the dialer too, which connects to no private, local or reserved address that a rule does not
consent to.

Exit status: 0 where it is allowed, or passes because outboundDefault is Audit; 3 where it is denied,
or names a port that a service of the mesh does not have; 1 where the question cannot be answered.`,
		Example: `  sluice why --from details-v2 https://www.googleapis.com/
  sluice why --label app=details https://www.google.com/
  sluice why --from productpage-v1 --header 'cookie: user=jason' http://reviews:9080/reviews/0
  sluice why 70d350fa85c31e82
  sluice why --rules rules.yaml https://pypi.org/
  sluice why --allow db.example.com:5432 --answer 10.1.2.3 db.example.com:5432`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 2 { // TYPE NAME
				if _, err := api.Lookup(args[0]); err == nil {
					return nil
				}
			}
			if len(args) != 1 {
				return errors.New("why takes one URL, such as https://www.example.com/, one id, or the name of one rule")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(o.output, "text", "json"); err != nil {
				return err
			}
			labels, err := parseLabels(o.labels)
			if err != nil {
				return err
			}
			_, err = record.ParseID(args[0])
			isID := err == nil
			rule, isRule, err := ruleAsked(cmd, args)
			if err != nil {
				return err
			}
			if isID || isRule {
				if err := refuseQuestion(cmd, isRule); err != nil {
					return err
				}
			}
			from, namespace, _, err := workloadFor(cmd, o.from)
			if err != nil {
				return err
			}
			query := inspect.WhyQuery{
				From: from, Namespace: namespace, Labels: labels, Account: o.account, URL: args[0], Method: o.method, Answers: o.answers, Headers: o.headers,
			}
			if o.rules.Any() || len(o.rules.Private) > 0 {
				for _, name := range []string{flagServer, flagKubeconfig} {
					if cmd.Flags().Changed(name) {
						return usageError(cmd, "--rules, --allow, --preset and --private ask no server: leave --"+name+" out")
					}
				}
				return o.offline(cmd, query)
			}
			client, err := clientFor(cmd)
			if err != nil {
				return err
			}
			defer client.Close()
			if !isID && !isRule && o.from == "" && len(labels) == 0 {
				return missingFrom(cmd.Context(), client)
			}
			switch {
			case isRule && o.output != "text":
				return usageError(cmd, "why RULE prints text: sluice get "+strings.Join(args, " ")+" -o json")
			case isRule:
				return describe(cmd.Context(), cmd.OutOrStdout(), client, rule)
			case isID:
				return o.open(cmd, client, args[0])
			}
			return o.ask(cmd, client, query)
		},
	}
	cmd.ValidArgsFunction = completeQuestions()
	f := cmd.Flags()
	f.StringVar(&o.from, "from", "", "the workload: details-v2/1, details-v2, a unique beginning, or one of these behind its namespace and a slash")
	complete(cmd, "from", completeWorkloads())
	f.StringArrayVar(&o.labels, "label", nil, "K=V of a workload that need not run; may be repeated")
	f.StringVar(&o.account, "service-account", "", "service account of a workload that need not run")
	f.StringVar(&o.method, "method", "GET", "method of the request")
	f.StringArrayVar(&o.headers, "header", nil, "header of the request, 'NAME: VALUE'; may be repeated")
	f.StringArrayVar(&o.answers, "answer", nil, "address that DNS is taken to answer for the name; may be repeated")
	o.rules.add(f)
	completePresets(cmd)
	addOutputFlag(cmd, &o.output, "text", "json")
	return cmd
}

// ruleAsked says whether the arguments name a rule, and which: TYPE NAME, or one word in
// any form of an object's name.
func ruleAsked(cmd *cobra.Command, args []string) (rule reference, isRule bool, err error) {
	if len(args) == 1 {
		if _, err := api.ParseReference(args[0]); errors.Is(err, api.ErrNoReference) {
			return reference{}, false, nil // a URL, a host or an id
		}
	}
	refs, err := parseReferences(cmd, args)
	if err != nil {
		return reference{}, false, err
	}
	return refs[0], true, nil
}

// refuseQuestion refuses the flags that say what is asked about, where a rule is shown or
// a decision that was made is opened. A rule is looked for in a namespace.
func refuseQuestion(cmd *cobra.Command, isRule bool) error {
	for _, name := range []string{"from", "label", "service-account", "method", "header", "answer", "rules", "allow", "preset", "private", flagNamespace} {
		if cmd.Flags().Changed(name) && !(isRule && name == flagNamespace) {
			return usageError(cmd, "why ID and why RULE take no --"+name+": what is asked about is there")
		}
	}
	return nil
}

// missingFrom says of a question which workload is to be asked about, and who there is.
func missingFrom(ctx context.Context, client *rest.Client) error {
	var status inspect.Status
	if err := client.Sluice(ctx, inspect.StatusPath, nil, &status); err != nil {
		return err
	}
	const listed = 10
	var names []string
	for i := range status.Workloads {
		names = append(names, status.Workloads[i].Instance)
	}
	running := "none runs now"
	if len(names) > 0 {
		running = "running now: " + strings.Join(names[:min(len(names), listed)], ", ")
	}
	if more := len(names) - listed; more > 0 {
		running += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Errorf("say with --from which workload asks (%s), or with --label K=V for one that does not run", running)
}

// ask asks the server.
func (o *whyOptions) ask(cmd *cobra.Command, client *rest.Client, q inspect.WhyQuery) error {
	query := url.Values{"url": {q.URL}, "namespace": {q.Namespace}, "method": {q.Method}, "answer": q.Answers, "header": q.Headers}
	if q.From != "" {
		query.Set("from", q.From)
	}
	if q.Account != "" {
		query.Set("account", q.Account)
	}
	for key, value := range q.Labels {
		query.Add("label", key+":"+value)
	}
	var answer inspect.Why
	if err := client.Sluice(cmd.Context(), inspect.WhyPath, query, &answer); err != nil {
		return err
	}
	return o.print(cmd.OutOrStdout(), &answer)
}

// open opens a decision that was made.
func (o *whyOptions) open(cmd *cobra.Command, client *rest.Client, id string) error {
	var opened inspect.Opened
	if err := client.Sluice(cmd.Context(), inspect.WhyPath+"/"+id, nil, &opened); err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	if o.output == "json" {
		if err := printJSON(w, opened); err != nil {
			return fmt.Errorf("write the answer: %w", err)
		}
		return statusOf(&opened.Why)
	}
	var b strings.Builder
	writeWhy(&b, &opened.Why, &opened.Flow)
	if opened.Since != "" {
		fmt.Fprintf(&b, "\nSince then: %s\n", opened.Since)
	}
	if opened.Now != nil {
		b.WriteString("\nBy the rules of now:\n\n")
		writeWhy(&b, opened.Now, nil)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	return statusOf(&opened.Why)
}

func (o *whyOptions) print(w io.Writer, answer *inspect.Why) error {
	var err error
	if o.output == "json" {
		err = printJSON(w, answer)
	} else {
		var b strings.Builder
		writeWhy(&b, answer, nil)
		_, err = io.WriteString(w, b.String())
	}
	if err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	return statusOf(answer)
}

// statusOf is the exit status of an answer.
func statusOf(answer *inspect.Why) error {
	if answer.Passes() {
		return nil
	}
	return &ExitError{Code: ExitDenied}
}

// writeWhy writes an answer; flow is what came of it, where it was decided and not
// only asked.
func writeWhy(b *strings.Builder, why *inspect.Why, flow *record.Record) {
	who := why.From
	if why.Hypothetical {
		who = strings.TrimSpace(who + " (no such workload runs: this is for one that would)")
	}
	fmt.Fprintf(b, "%s: %s\n", why.Title, strings.ToUpper(why.Verdict))
	line := func(what, text string) {
		if text != "" {
			fmt.Fprintf(b, "  %-9s %s\n", what, text)
		}
	}
	line("from", who)
	if flow != nil {
		line("id", flow.ID.String())
		line("when", flow.Start.Local().Format("2006-01-02 15:04:05.000"))
		line("outcome", outcomeText(flow))
	}
	switch {
	case why.Age > 0:
		line("snapshot", fmt.Sprintf("%s, revision %d, %s old", short(why.Snapshot), why.Revision, age(why.Age)))
	default:
		line("snapshot", short(why.Snapshot))
	}
	line("why", why.Sentence)
	line("reason", string(why.Reason))
	line("rule", why.Rule)
	line("closest", why.Closest)
	line("how", strings.TrimSpace(why.Treatment+" "+why.Protocol))
	for _, proof := range why.Proofs {
		line("seen", proof.Link+" "+proof.Value+": "+proof.ProvedBy)
	}
	if why.Route != nil {
		why.Route.Lines(line)
	}
	for _, answer := range why.Answers {
		line("answer", answer.Address.String()+" "+answer.Text)
	}
	for _, unseen := range why.Unseen {
		line("unseen", unseen)
	}
	if why.Remedy == nil {
		return
	}
	line("remedy", why.Remedy.Sentence)
	if why.Remedy.Allow != "" {
		line("run", "sluice run --allow '"+why.Remedy.Allow+"'")
	}
	if why.Remedy.YAML != "" {
		fmt.Fprintf(b, "\n%s", why.Remedy.YAML)
	}
}

// outcomeText says in the words of sluice flows what came of a decision.
func outcomeText(f *record.Record) string {
	parts := []string{f.Verdict.String()}
	if f.Status != 0 {
		parts = append(parts, fmt.Sprintf("status %d", f.Status))
	}
	if f.Upstream != "" {
		parts = append(parts, "at "+f.Upstream)
	}
	if f.Attempts > 1 {
		parts = append(parts, fmt.Sprintf("%d attempts", f.Attempts))
	}
	if f.Sent+f.Received > 0 {
		parts = append(parts, fmt.Sprintf("%d bytes sent, %d received", f.Sent, f.Received))
	}
	if f.Duration > 0 {
		parts = append(parts, "in "+f.Duration.Round(time.Microsecond).String())
	}
	text := strings.Join(parts, ", ")
	if f.Verdict == record.Failed || f.Reason != "" && f.Verdict != record.Audited {
		text += ": " + string(record.AppendWhy(nil, f))
	}
	return text
}

// offline decides by rules of files, with no server.
func (o *whyOptions) offline(cmd *cobra.Command, q inspect.WhyQuery) error {
	question, err := advice.Parse(q.URL, q.Method)
	if err != nil {
		return err
	}
	if question, err = question.WithAnswers(q.Answers); err != nil {
		return err
	}
	if question, err = question.WithHeaders(q.Headers); err != nil {
		return err
	}
	workload := wire.Workload{Namespace: q.Namespace, Account: q.Account, Labels: q.Labels}
	compiled, err := o.rules.from(cmd).Compile(workload, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	explained, err := advice.Answer(question, compiled, workload)
	if err != nil {
		return err
	}
	return o.print(cmd.OutOrStdout(), &inspect.Why{Format: inspect.Format, From: cmp.Or(o.from, "a workload of namespace "+q.Namespace), Title: question.Title, Explanation: explained})
}

// parseLabels reads K=V.
func parseLabels(texts []string) (map[string]string, error) {
	var labels map[string]string
	for _, text := range texts {
		key, value, ok := strings.Cut(text, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("--label %q must look like K=V", text)
		}
		if labels == nil {
			labels = make(map[string]string)
		}
		labels[key] = value
	}
	return labels, nil
}
