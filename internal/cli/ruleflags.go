package cli

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sluice.dev/sluice/internal/rulefile"
	"sluice.dev/sluice/rules"
)

// ruleFlags are the flags of commands that take rules without a server.
type ruleFlags struct{ rulefile.Rules }

// add gives a command the flags.
func (r *ruleFlags) add(f *pflag.FlagSet) {
	f.StringArrayVar(&r.Files, "rules", nil, "`FILE` of rules (EgressPolicy, EgressRule), - for standard input; may be repeated")
	f.StringArrayVar(&r.Allow, "allow", nil, "HOST[:PORT[/PROTOCOL]][,PORT...] that may be reached: a name, *.wildcard, address or CIDR; 443 without a port; may be repeated")
	f.StringArrayVar(&r.Presets, "preset", nil, "`NAME` of rules that come with Sluice: "+strings.Join(rules.Presets(), ", ")+"; may be repeated")
	f.StringArrayVar(&r.Private, "private", nil, "`CIDR` of private addresses that the names of every rule may lead to; may be repeated")
}

// completePresets completes --preset.
func completePresets(cmd *cobra.Command) {
	_ = cmd.RegisterFlagCompletionFunc("preset", cobra.FixedCompletions(rules.Presets(), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.MarkFlagFilename("rules", "yaml", "yml", "json")
}

// from returns the rules of a call of cmd.
func (r *ruleFlags) from(cmd *cobra.Command) rulefile.Rules {
	out := r.Rules
	out.Input = cmd.InOrStdin()
	return out
}
