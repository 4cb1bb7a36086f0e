package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// transaction is messages to nftables that count together or not at all, as one block of
// bytes. Each sandbox sends one while it starts: package nftables asks the kernel to
// confirm and to repeat every message, which takes three times as long.
type transaction struct {
	bytes    []byte
	sequence uint32
	last     int // where the last message begins
}

const (
	netlinkHeader    = 16
	attributeHeader  = 4
	usualTransaction = 16 << 10 // all rules of a sandbox
	// confirmedWithin bounds the wait for the kernel, which answers before the send returns.
	confirmedWithin = 10 * time.Second
)

func newTransaction() *transaction {
	t := &transaction{bytes: make([]byte, 0, usualTransaction)}
	t.message(unix.NFNL_MSG_BATCH_BEGIN, unix.NLM_F_REQUEST, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, nil)
	return t
}

// message adds one; attributes adds what is in it.
func (t *transaction) message(kind, flags uint16, family byte, resource uint16, attributes func()) {
	t.last = len(t.bytes)
	t.sequence++
	t.bytes = append(t.bytes, make([]byte, 4)...) // the length
	t.bytes = binary.NativeEndian.AppendUint16(t.bytes, kind)
	t.bytes = binary.NativeEndian.AppendUint16(t.bytes, flags)
	t.bytes = binary.NativeEndian.AppendUint32(t.bytes, t.sequence)
	t.bytes = binary.NativeEndian.AppendUint32(t.bytes, 0) // the port, which the kernel fills in
	t.bytes = append(t.bytes, family, unix.NFNETLINK_V0)
	t.bytes = binary.BigEndian.AppendUint16(t.bytes, resource)
	if attributes != nil {
		attributes()
	}
	binary.NativeEndian.PutUint32(t.bytes[t.last:], uint32(len(t.bytes)-t.last))
}

func (t *transaction) create(kind, flags uint16, attributes func()) {
	t.message(unix.NFNL_SUBSYS_NFTABLES<<8|kind, unix.NLM_F_REQUEST|unix.NLM_F_CREATE|flags, unix.NFPROTO_INET, 0, attributes)
}

// attribute adds one with what is in it.
func (t *transaction) attribute(kind uint16, content func()) {
	at := len(t.bytes)
	t.bytes = append(t.bytes, make([]byte, attributeHeader)...)
	binary.NativeEndian.PutUint16(t.bytes[at+2:], kind)
	content()
	binary.NativeEndian.PutUint16(t.bytes[at:], uint16(len(t.bytes)-at))
	for len(t.bytes)%4 != 0 {
		t.bytes = append(t.bytes, 0)
	}
}

func (t *transaction) text(kind uint16, text string) {
	t.attribute(kind, func() { t.bytes = append(append(t.bytes, text...), 0) })
}

func (t *transaction) number(kind uint16, number uint32) {
	t.attribute(kind, func() { t.bytes = binary.BigEndian.AppendUint32(t.bytes, number) })
}

func (t *transaction) addTable(table string) {
	t.create(unix.NFT_MSG_NEWTABLE, 0, func() { t.text(unix.NFTA_TABLE_NAME, table) })
}

// addChain adds a chain of filters.
func (t *transaction) addChain(table, chain string, hook uint32, priority int32) {
	t.create(unix.NFT_MSG_NEWCHAIN, 0, func() {
		t.text(unix.NFTA_CHAIN_TABLE, table)
		t.text(unix.NFTA_CHAIN_NAME, chain)
		t.attribute(unix.NLA_F_NESTED|unix.NFTA_CHAIN_HOOK, func() {
			t.number(unix.NFTA_HOOK_HOOKNUM, hook)
			t.number(unix.NFTA_HOOK_PRIORITY, uint32(priority))
		})
		t.text(unix.NFTA_CHAIN_TYPE, "filter")
	})
}

func (t *transaction) addRule(table, chain string, expressions []expr.Any) (err error) {
	t.create(unix.NFT_MSG_NEWRULE, unix.NLM_F_APPEND, func() {
		t.text(unix.NFTA_RULE_TABLE, table)
		t.text(unix.NFTA_RULE_CHAIN, chain)
		t.attribute(unix.NLA_F_NESTED|unix.NFTA_RULE_EXPRESSIONS, func() {
			for _, e := range expressions {
				encoded, failed := expr.Marshal(unix.NFPROTO_INET, e)
				err = errors.Join(err, failed)
				t.attribute(unix.NLA_F_NESTED|unix.NFTA_LIST_ELEM, func() { t.bytes = append(t.bytes, encoded...) })
			}
		})
	})
	return err
}

// commit sends it to the calling thread's namespace. The kernel says of each message what
// is wrong with it, and of the last that all of them count.
func (t *transaction) commit() error {
	confirmed := t.sequence
	flags := t.bytes[t.last+6:]
	binary.NativeEndian.PutUint16(flags, binary.NativeEndian.Uint16(flags)|unix.NLM_F_ACK)
	t.message(unix.NFNL_MSG_BATCH_END, unix.NLM_F_REQUEST, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, nil)
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("open a netlink socket: %w", err)
	}
	defer unix.Close(fd)
	wait := unix.NsecToTimeval(confirmedWithin.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		return err
	}
	if err := unix.Sendto(fd, t.bytes, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	for {
		n, _, err := unix.Recvfrom(fd, answer, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("no answer from nftables: %w", err)
		}
		if done, err := confirms(answer[:n], confirmed); done || err != nil {
			return err
		}
	}
}

// confirms reads a datagram of the kernel's: an error ends it, and so does the word that
// the message with that number counts.
func confirms(datagram []byte, sequence uint32) (done bool, err error) {
	for len(datagram) >= netlinkHeader {
		length := binary.NativeEndian.Uint32(datagram)
		if length < netlinkHeader {
			return false, errors.New("nftables answers with a message of no length")
		}
		if kind := binary.NativeEndian.Uint16(datagram[4:]); kind == unix.NLMSG_ERROR && len(datagram) >= netlinkHeader+4 {
			if code := int32(binary.NativeEndian.Uint32(datagram[netlinkHeader:])); code != 0 {
				return false, syscall.Errno(-code)
			}
			done = done || binary.NativeEndian.Uint32(datagram[8:]) == sequence
		}
		datagram = datagram[min(uint64(len(datagram)), (uint64(length)+3)&^3):]
	}
	return done, nil
}
