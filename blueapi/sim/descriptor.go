package sim

import (
	"fmt"
	"time"
)

// A device is one of the stage and detectors as the documents of a run have it.
type device struct {
	name    string
	config  []signal
	signals []signal
	files   []file // a detector writes files instead
	// triggered says that the detector has taken a frame.
	triggered bool
}

// A signal is a number that a device has.
type signal struct {
	name  string
	value float64
	at    time.Time
	unit  string
}

// A file is one data set in a detector's file.
type file struct {
	key        string
	uri        value
	data       []member // of its data key
	parameters value
}

// nextFile has the detector begin a new file.
func (w *worker) nextFile() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.files++
}

func soft(name string, config []signal, signals ...signal) device {
	return device{name: name, config: config, signals: signals}
}

// device is one of the demo devices, by name, as the worker has it now.
func (w *worker) device(name string) device {
	w.mu.Lock()
	defer w.mu.Unlock()
	if name == "det" {
		return device{name: "det", files: detectorFiles(max(0, w.files-1))}
	}
	var config, signals []signal
	for _, m := range []*motor{&w.stage.x, &w.stage.y} {
		config = append(config, signal{name: m.name + "-acceleration_time", value: motorAcceleration.Seconds(), at: w.born},
			signal{name: m.name + "-velocity", value: motorVelocity, at: w.born})
		signals = append(signals, signal{name: m.name, value: m.position, at: m.at, unit: "mm"})
	}
	return soft("stage", config, signals...)
}

func detectorFiles(number int) []file {
	uri := str(fmt.Sprintf("file://localhost/tmp/demo_%05d.h5", number))
	data := func(dtype, numpy string, shape ...int) []member {
		return []member{
			{"source", uri},
			{"shape", wholes(shape...)},
			{"dtype", str(dtype)},
			{"dtype_numpy", str(numpy)},
			{"external", str("STREAM:")},
		}
	}
	parameters := func(dataset string, chunk ...int) value {
		return dict(member{"chunk_shape", wholes(chunk...)}, member{"dataset", str(dataset)})
	}
	return []file{
		{"det", uri, data("array", "|u1", 1, 240, 320), parameters("/entry/data/data", 1, 240, 320)},
		{"det-sum", uri, data("number", "<i8", 1), parameters("/entry/sum", 1024)},
	}
}

// key describes a signal in a descriptor.
func (s signal) key() []member {
	k := []member{
		{"dtype", str("number")}, {"shape", value{kind: list}}, {"dtype_numpy", str("<f8")}, {"source", str("soft://" + s.name)},
	}
	if s.unit != "" {
		k = append(k, member{"units", str(s.unit)})
	}
	return k
}

// descriptor says what the events of a run will hold.
func descriptor(start, uid string, now time.Time, devices []device) value {
	configuration, keys, objectKeys, hints := dict(), dict(), dict(), dict()
	for _, d := range devices {
		data, timestamps, configKeys := dict(), dict(), dict()
		for _, s := range d.config {
			data.set(member{s.name, decimal(s.value)})
			timestamps.set(member{s.name, clock(s.at)})
			configKeys.set(member{s.name, dict(s.key()...)})
		}
		configuration.set(member{d.name, dict(member{"data", data}, member{"timestamps", timestamps}, member{"data_keys", configKeys})})
		names, fields := value{kind: list}, value{kind: list}
		for _, s := range d.signals {
			keys.set(member{s.name, dict(append(s.key(), member{"object_name", str(d.name)})...)})
			names.items = append(names.items, str(s.name))
		}
		fields.items = names.items
		for _, f := range d.files {
			keys.set(member{f.key, dict(append(f.data, member{"object_name", str(d.name)})...)})
			names.items = append(names.items, str(f.key))
		}
		if len(d.files) > 0 {
			fields.items = names.items[:1]
		}
		objectKeys.set(member{d.name, names})
		hints.set(member{d.name, dict(member{"fields", fields})})
	}
	return dict(member{"configuration", configuration}, member{"data_keys", keys}, member{"name", str("primary")},
		member{"object_keys", objectKeys}, member{"run_start", str(start)}, member{"time", clock(now)}, member{"uid", str(uid)},
		member{"object_classes", dict()}, member{"hints", hints})
}
