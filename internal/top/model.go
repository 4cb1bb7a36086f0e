package top

import (
	"context"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"sluice.dev/sluice/internal/record"
)

// Opener says in text why something was denied, or what a rule is.
type Opener interface {
	Why(ctx context.Context, id record.ID) (string, error)
	Rule(ctx context.Context, rule string) (string, error)
}

// every is how often the screen is drawn anew.
const every = time.Second

// patience is how long an answer about a denial may take.
const patience = 15 * time.Second

// Model is the terminal program. It belongs to one tea.Program.
type Model struct {
	state  *State
	opener Opener
	shown  picture
	screen screen
	chosen record.ID // the denial that is selected: it stays so while others come
	asked  int       // of what was opened, in the order of asking: an answer that is late is dropped
}

// NewModel returns one that shows a state.
func NewModel(state *State, opener Opener, colour bool) *Model {
	return &Model{state: state, opener: opener, shown: state.picture(), screen: screen{width: 80, height: 24, colour: colour}}
}

// tick says that the screen is to be drawn anew.
type tick struct{}

// opened is the answer to what was opened.
type opened struct {
	asked int
	text  string
}

func ticks() tea.Cmd { return tea.Tick(every, func(time.Time) tea.Msg { return tick{} }) }

// Init implements tea.Model.
func (m *Model) Init() tea.Cmd { return ticks() }

// Update implements tea.Model.
func (m *Model) Update(message tea.Msg) (tea.Model, tea.Cmd) {
	switch message := message.(type) {
	case tea.WindowSizeMsg:
		m.screen.width, m.screen.height = message.Width, message.Height
	case tick:
		m.look()
		return m, ticks()
	case opened:
		if message.asked == m.asked && m.screen.detail != nil {
			m.screen.detail, m.screen.from = strings.Split(strings.TrimRight(message.text, "\n"), "\n"), 0
		}
	case tea.KeyPressMsg:
		return m, m.key(message.String())
	}
	return m, nil
}

// look takes what is known now, and keeps the denial selected that was.
func (m *Model) look() {
	m.shown = m.state.picture()
	if m.screen.tab == denials && m.chosen != 0 {
		if at := slices.IndexFunc(m.shown.denials, func(f record.Record) bool { return f.ID == m.chosen }); at >= 0 {
			m.screen.selected = at
		}
	}
	m.choose(m.screen.selected)
}

// choose selects a row, or the nearest that there is.
func (m *Model) choose(at int) {
	m.screen.selected = max(0, min(at, m.screen.rows(&m.shown)-1))
	m.chosen = 0
	if m.screen.tab == denials && m.screen.selected < len(m.shown.denials) && m.screen.selected > 0 {
		m.chosen = m.shown.denials[m.screen.selected].ID // at the top the newest stays selected
	}
}

// key does what a key is for.
func (m *Model) key(key string) tea.Cmd {
	switch key {
	case "q", "ctrl+c":
		return tea.Quit
	}
	if m.screen.detail != nil {
		m.scroll(key)
		return nil
	}
	page := max(1, m.screen.height-5)
	switch key {
	case "tab", "right":
		m.turn((m.screen.tab + 1) % tabs)
	case "shift+tab", "left":
		m.turn((m.screen.tab + tabs - 1) % tabs)
	case "1", "2", "3":
		m.turn(tab(key[0] - '1'))
	case "up", "k":
		m.choose(m.screen.selected - 1)
	case "down", "j":
		m.choose(m.screen.selected + 1)
	case "pgup":
		m.choose(m.screen.selected - page)
	case "pgdown":
		m.choose(m.screen.selected + page)
	case "home", "g":
		m.choose(0)
	case "end", "G":
		m.choose(m.screen.rows(&m.shown) - 1)
	case "enter", "w":
		return m.open(false)
	case "r":
		return m.open(true)
	}
	return nil
}

func (m *Model) turn(to tab) {
	m.screen.tab = to
	m.choose(0)
}

// scroll moves in what was opened, or leaves it.
func (m *Model) scroll(key string) {
	page := max(1, m.screen.height-3)
	by := map[string]int{"up": -1, "k": -1, "down": 1, "j": 1, "pgup": -page, "pgdown": page, "space": page, "home": -len(m.screen.detail), "end": len(m.screen.detail)}
	switch {
	case key == "esc" || key == "enter" || key == "backspace" || key == "left":
		m.screen.detail = nil
		m.asked++
	case by[key] != 0:
		m.screen.from = max(0, min(m.screen.from+by[key], len(m.screen.detail)-page))
	}
}

// open asks why the selected denial was made, or for its rule.
func (m *Model) open(rule bool) tea.Cmd {
	if m.screen.tab != denials || m.screen.selected >= len(m.shown.denials) {
		m.turn(denials)
		return nil
	}
	f := m.shown.denials[m.screen.selected]
	m.asked++
	asked := m.asked
	m.screen.title, m.screen.detail, m.screen.from = "sluice why "+f.ID.String(), []string{"asking"}, 0
	ask := func(ctx context.Context) (string, error) { return m.opener.Why(ctx, f.ID) }
	if rule {
		m.screen.title = "the rule of " + f.ID.String()
		if f.Rule == "" {
			m.screen.detail = []string{"No rule has to do with it: press esc and enter for the rule that would allow it."}
			return nil
		}
		ask = func(ctx context.Context) (string, error) { return m.opener.Rule(ctx, f.Rule) }
	}
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		text, err := ask(ctx)
		if err != nil {
			text = "It cannot be shown: " + err.Error()
		}
		return opened{asked, text}
	}
}

// View implements tea.Model.
func (m *Model) View() tea.View {
	view := tea.NewView(strings.Join(m.screen.draw(&m.shown), "\n"))
	view.AltScreen = true
	return view
}
