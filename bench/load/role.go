package load

import (
	"encoding/json"
	"io"
)

// Ready is what a load says when its connections are warm, before it waits for
// the word to run.
type Ready struct {
	Error string `json:"error,omitempty"`
}

// Obey makes the measurements that are ordered on in, until it ends. After an
// Order it says Ready; after the next line, whatever it is, it runs and says the
// Result. In between nothing is sent, so that what the proxy had cost till then
// can be read.
func Obey(in io.Reader, out io.Writer) error {
	orders, said := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var o Order
		if err := orders.Decode(&o); err != nil {
			return ignoreEnd(err)
		}
		clients, err := Connect(o)
		if err != nil {
			if err := said.Encode(Ready{Error: err.Error()}); err != nil {
				return err
			}
			continue
		}
		if err := obeyOne(clients, orders, said); err != nil {
			return ignoreEnd(err)
		}
	}
}

func obeyOne(c *Clients, orders *json.Decoder, said *json.Encoder) error {
	defer c.Close()
	if err := said.Encode(Ready{}); err != nil {
		return err
	}
	var word any
	if err := orders.Decode(&word); err != nil {
		return err
	}
	return said.Encode(c.Run())
}

func ignoreEnd(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}
