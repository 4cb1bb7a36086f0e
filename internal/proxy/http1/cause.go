package http1

import (
	"errors"
	"strconv"

	"sluice.dev/sluice/internal/refusal"
)

// cause says what is wrong with a message that is not taken. The zero value is
// nothing.
type cause uint8

const (
	fine cause = iota

	bareLF // lines, and what frames a message
	notARequestLine
	badMethod
	badVersion
	spaceInTarget
	fragmentInTarget
	byteInTarget
	notATarget
	asteriskTarget
	authorityDiffers
	badEscape
	noHost
	twoHosts
	emptyHost
	badHost
	badAuthority
	foldedField
	spaceBeforeColon
	noFieldName
	noColon
	byteInName
	byteInValue
	twoLengths
	lengthAndCoding
	badLength
	twoCodings
	otherCoding
	codingInHTTP10
	badOption
	optionNamesField
	mistakableName
	trailerNamesFraming

	badChunkSize // the chunked coding
	longChunkSize
	byteInExtension
	longExtension
	longExtensions
	chunkOverrun
	chunkEnd
	lastChunkEnd
	longTrailers
	framingInTrailers

	notAStatusLine // answers
	badStatus
	byteInPhrase
	manyInterim
	unaskedSwitch
	bodyOfSwitch
	switchInBody

	longHead // bounds, and what is not taken at all
	manyFields
	longBody
	otherExpectation
	methodConnect
	methodTrace
	otherVersion
	http2Preface

	causes // how many there are
)

// causeTable holds the text of each, and the reason for which a request with it is
// refused. An answer with it is refusal.UpstreamProtocol. A text of "" says no
// more than the reason does.
var causeTable = [causes]struct {
	reason refusal.Reason
	text   string
}{
	bareLF:              {refusal.RequestMalformed, "a line that ends in LF without CR"},
	notARequestLine:     {refusal.RequestMalformed, "a request line that is not method, target and version with one space between them"},
	badMethod:           {refusal.RequestMalformed, "a method that is not a token"},
	badVersion:          {refusal.RequestMalformed, "a malformed HTTP version"},
	spaceInTarget:       {refusal.RequestMalformed, "a space in the request target"},
	fragmentInTarget:    {refusal.RequestMalformed, "a fragment (#) in the request target"},
	byteInTarget:        {refusal.RequestMalformed, "a byte in the request target that must be percent-encoded"},
	notATarget:          {refusal.RequestMalformed, "a request target that is neither a path nor an http or https URL"},
	asteriskTarget:      {refusal.RequestMalformed, "the request target * with another method than OPTIONS"},
	authorityDiffers:    {refusal.RequestMalformed, "a URL as request target whose authority is not that of the Host field"},
	badEscape:           {refusal.RequestMalformed, "broken percent-encoding in the path"},
	noHost:              {refusal.RequestMalformed, "no Host field"},
	twoHosts:            {refusal.RequestMalformed, "two Host fields"},
	emptyHost:           {refusal.RequestMalformed, "an empty Host field"},
	badHost:             {refusal.RequestMalformed, "a byte in the Host field that no host and port have"},
	badAuthority:        {refusal.RequestMalformed, "a Host field or URL that is not one host and at most one port"},
	foldedField:         {refusal.RequestMalformed, "a field line that begins with a space (a folded line)"},
	spaceBeforeColon:    {refusal.RequestMalformed, "a space before the colon in a field name"},
	noFieldName:         {refusal.RequestMalformed, "a field line without a name"},
	noColon:             {refusal.RequestMalformed, "a field line without a colon"},
	byteInName:          {refusal.RequestMalformed, "a byte in a field name that no token has"},
	byteInValue:         {refusal.RequestMalformed, "a control byte in a field value"},
	twoLengths:          {refusal.RequestMalformed, "two Content-Length fields"},
	lengthAndCoding:     {refusal.RequestMalformed, "Content-Length and Transfer-Encoding together"},
	badLength:           {refusal.RequestMalformed, "a Content-Length that is not one decimal number of at most 18 digits"},
	twoCodings:          {refusal.RequestMalformed, "two Transfer-Encoding fields"},
	otherCoding:         {refusal.RequestMalformed, "a Transfer-Encoding other than chunked"},
	codingInHTTP10:      {refusal.RequestMalformed, "Transfer-Encoding in HTTP/1.0"},
	badOption:           {refusal.RequestMalformed, "a Connection option that is not a token"},
	optionNamesField:    {refusal.RequestMalformed, "a Connection option that names a field which every recipient needs"},
	mistakableName:      {refusal.RequestMalformed, "a field name that is Content-Length or Transfer-Encoding but for its separators, which some servers take for the real field"},
	trailerNamesFraming: {refusal.RequestMalformed, "a Trailer field that announces a field which cannot come after the body"},

	badChunkSize:      {refusal.RequestMalformed, "a malformed chunk size"},
	longChunkSize:     {refusal.RequestMalformed, "a chunk size of more than " + strconv.Itoa(maxSizeDigits) + " digits"},
	byteInExtension:   {refusal.RequestMalformed, "a control byte in a chunk extension"},
	longExtension:     {refusal.RequestMalformed, "more than " + strconv.Itoa(maxExtension) + " bytes of extensions in one chunk"},
	longExtensions:    {refusal.RequestMalformed, "more than " + strconv.Itoa(maxExtensions>>10) + " KiB of chunk extensions in one body"},
	chunkOverrun:      {refusal.RequestMalformed, "a chunk that is longer than its size says"},
	chunkEnd:          {refusal.RequestMalformed, "a CR without LF after a chunk or its size"},
	lastChunkEnd:      {refusal.RequestMalformed, "a CR without LF after the last chunk"},
	longTrailers:      {refusal.RequestMalformed, "more than " + strconv.Itoa(maxTrailerBytes>>10) + " KiB of trailers"},
	framingInTrailers: {refusal.RequestMalformed, "a trailer field that cannot come after the body"},

	notAStatusLine: {refusal.UpstreamProtocol, "a status line that is not an HTTP/1.1 or HTTP/1.0 version, a status and a phrase"},
	badStatus:      {refusal.UpstreamProtocol, "a status that is not three digits from 100 on"},
	byteInPhrase:   {refusal.UpstreamProtocol, "a control byte in the reason phrase"},
	manyInterim:    {refusal.UpstreamProtocol, "more than " + strconv.Itoa(maxInterim) + " interim answers"},
	unaskedSwitch:  {refusal.UpstreamProtocol, "a switch to a protocol that was not asked for"},
	bodyOfSwitch:   {refusal.UpstreamProtocol, "a switch of protocols with a body"},
	switchInBody:   {refusal.UpstreamProtocol, "a switch of protocols before the request's body was read"},

	longHead:         {refusal.HeadersTooLarge, ""}, // the number is the Limits'
	manyFields:       {refusal.HeadersTooLarge, "more than " + strconv.Itoa(maxHeaderFields) + " fields"},
	longBody:         {refusal.RequestTooLarge, ""},
	otherExpectation: {refusal.ExpectationUnknown, ""},
	methodConnect:    {refusal.ConnectNotSupported, ""},
	methodTrace:      {refusal.TraceRefused, ""},
	otherVersion:     {refusal.VersionNotSupported, ""},
	http2Preface:     {refusal.HTTP2NotSupported, ""},
}

// publicText is a text that every client may read, for it says nothing of addresses
// or rules.
type publicText string

// Error implements error.
func (t publicText) Error() string { return string(t) }

// text is a cause in words, with the limit that it is about.
func (l *Limits) text(c cause) string {
	switch c {
	case longHead:
		return "more than " + sizeText(int64(l.MaxHeaderBytes)) + " of head"
	case longBody:
		return "more than " + sizeText(l.MaxBodyBytes) + " of body"
	}
	return causeTable[c].text
}

// request is the refusal of a request.
func (l *Limits) request(c cause) *refusal.Error {
	e := &refusal.Error{Reason: causeTable[c].reason}
	if text := l.text(c); text != "" {
		e.Err = publicText(text)
	}
	return e
}

// answer is the refusal of an upstream's answer.
func (l *Limits) answer(c cause) *refusal.Error {
	return &refusal.Error{Reason: refusal.UpstreamProtocol, Err: publicText(l.text(c))}
}

func sizeText(n int64) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return strconv.FormatInt(n>>20, 10) + " MiB"
	case n >= 1<<10 && n%(1<<10) == 0:
		return strconv.FormatInt(n>>10, 10) + " KiB"
	}
	return strconv.FormatInt(n, 10) + " bytes"
}

// message is the text of a failure for the client: with explain all that the layers
// below said, else nothing of addresses.
func message(e *refusal.Error, explain bool) string {
	var t publicText
	switch {
	case explain || e.Text == "" && errors.As(e.Err, &t):
		return sentence(e.Error())
	}
	return e.Reason.Text()
}

// sentence ends s with a full stop.
func sentence(s string) string {
	if s == "" || s[len(s)-1] == '.' || s[len(s)-1] == '\n' {
		return s
	}
	return s + "."
}
