package scale

import (
	"context"
	"fmt"
)

// Lots are all that a seed decides: who connects to whom, where hosts stand as far as
// latencies tell, who says what when.
func Lots(cfg Config) (lots []string, end func(), err error) {
	cfg, err = cfg.withDefaults()
	if err != nil {
		return nil, nil, err
	}
	w, err := newWorld(context.Background(), cfg)
	if err != nil {
		return nil, nil, err
	}
	for i := range w.say {
		lots = append(lots, fmt.Sprint(w.say[i].at, w.say[i].by))
	}
	for i := range w.members() {
		for _, to := range w.found(cfg.Dials, i) {
			lots = append(lots, fmt.Sprint(i, "-", to.number))
		}
	}
	return lots, w.close, nil
}
