package capture

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// rulesRole writes rules of which the last is wrong, and then those of a sandbox, and says
// what is not there as it should be.
func rulesRole() int {
	wrong := newTransaction()
	wrong.addTable(sandboxTable)
	wrong.addRule(sandboxTable, "no-such-chain", []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}})
	if err := wrong.commit(); !errors.Is(err, syscall.ENOENT) {
		fmt.Println("a rule of a chain that is not there:", err)
	}
	conn, err := nftables.New()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if tables, err := conn.ListTables(); err != nil || len(tables) != 0 {
		fmt.Println("after an error there are tables:", len(tables), err)
	}
	rules := ruleset(true, Options{Ask: true, LoopbackDNS: true})
	if err := writeRules(rules); err != nil {
		fmt.Println("write:", err)
	}
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: sandboxTable}
	for name, want := range map[string]chain{"arriving": arriving, "leaving": leaving} {
		written, err := conn.GetRules(table, &nftables.Chain{Name: name, Table: table})
		if err != nil {
			fmt.Println(name, err)
		}
		for _, r := range rules {
			if r.chain != want {
				continue
			}
			if len(written) == 0 {
				fmt.Println(name, "has fewer rules")
				break
			}
			if !reflect.DeepEqual(kinds(written[0].Exprs), kinds(r.expressions())) {
				fmt.Printf("%s: a rule is %q and not %q\n", name, kinds(written[0].Exprs), kinds(r.expressions()))
				break
			}
			written = written[1:]
		}
		if len(written) > 0 {
			fmt.Println(name, "has more rules:", len(written))
		}
	}
	fmt.Println("looked")
	return 0
}

func kinds(expressions []expr.Any) (all []string) {
	for _, e := range expressions {
		if _, unread := e.(*expr.TProxy); unread {
			continue // the library writes it, and does not read it
		}
		all = append(all, fmt.Sprintf("%T", e))
	}
	return all
}

func TestRulesAreWrittenTogetherOrNotAtAll(t *testing.T) {
	said, say, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	namespaceInto(t, "rules", say, nil)
	say.Close()
	if output, err := io.ReadAll(said); err != nil || string(output) != "looked\n" {
		t.Errorf("%v:\n%s", err, output)
	}
}

// answerOf is the kernel's to a message.
func answerOf(sequence uint32, code int32) []byte {
	b := binary.NativeEndian.AppendUint32(nil, 36)
	b = binary.NativeEndian.AppendUint16(b, unix.NLMSG_ERROR)
	b = binary.NativeEndian.AppendUint16(b, 0)
	b = binary.NativeEndian.AppendUint32(b, sequence)
	b = binary.NativeEndian.AppendUint32(b, 0)
	b = binary.NativeEndian.AppendUint32(b, uint32(code))
	return append(b, make([]byte, 16)...)
}

func TestTheWordOfTheLastMessageCountsUnlessThereIsAnError(t *testing.T) {
	for name, c := range map[string]struct {
		datagram []byte
		done     bool
		err      error
	}{
		"the last":                    {answerOf(7, 0), true, nil},
		"another":                     {answerOf(6, 0), false, nil},
		"both":                        {append(answerOf(6, 0), answerOf(7, 0)...), true, nil},
		"an error":                    {answerOf(3, -int32(unix.ENOENT)), false, syscall.ENOENT},
		"an error behind the last":    {append(answerOf(7, 0), answerOf(7, -int32(unix.EPERM))...), false, syscall.EPERM},
		"nothing":                     {nil, false, nil},
		"a part":                      {answerOf(7, 0)[:18], false, nil},
		"a length beyond what it has": {append([]byte{255, 255, 0, 0}, answerOf(7, 0)[4:]...), true, nil},
		"the longest length":          {append([]byte{255, 255, 255, 255}, answerOf(7, 0)[4:]...), true, nil},
	} {
		if done, err := confirms(c.datagram, 7); done != c.done || !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("%s: %v, %v", name, done, err)
		}
	}
	if _, err := confirms(make([]byte, 64), 7); err == nil || !strings.Contains(err.Error(), "no length") {
		t.Error(err)
	}
}

func FuzzAnswersOfNftables(f *testing.F) {
	f.Add(answerOf(7, 0))
	f.Add(append(answerOf(6, 0), answerOf(7, -2)...))
	f.Add([]byte{1, 0, 0, 0, 2, 0})
	f.Fuzz(func(t *testing.T, datagram []byte) {
		if done, err := confirms(datagram, 7); done && err != nil {
			t.Errorf("%s: done, and %v", hex.EncodeToString(datagram), err)
		}
	})
}
