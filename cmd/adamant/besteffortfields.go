package main

// dimensions are the independent variables of a run.
type dimensions struct {
	axes   []string // the first field of each
	fields []string
	stream string
}

// hintedDimensions are those that the plan tells; nil if it tells none, or some of
// different streams, which cannot be combined.
func hintedDimensions(start pyDict) (*dimensions, error) {
	hints, ok := start.lookup("hints")
	if !ok {
		return nil, nil
	}
	dict, ok := hints.(pyDict)
	if !ok {
		return nil, errValue
	}
	hinted := dict.get("dimensions")
	if hinted == nil {
		return nil, nil
	}
	list, ok := hinted.([]any)
	if !ok {
		return nil, errValue
	}
	var d dimensions
	mixed := false
	for i, item := range list {
		pair, _ := item.([]any)
		if len(pair) != 2 {
			return nil, errValue
		}
		fields, err := texts(pair[0])
		stream, ok := pair[1].(string)
		if err != nil || !ok {
			return nil, errValue
		}
		if i == 0 {
			d.stream = stream
		}
		mixed = mixed || stream != d.stream
		d.fields = append(d.fields, fields...)
		if len(fields) == 0 {
			fields = []string{"time"}
		}
		d.axes = append(d.axes, fields[0])
	}
	if mixed || len(list) == 0 {
		return nil, nil
	}
	return &d, nil
}

// guessedDimensions are the motors of a plan, or else the time.
func guessedDimensions(start pyDict) (*dimensions, error) {
	d := dimensions{stream: "primary", axes: []string{"time"}}
	if v := start.get("motors"); v != nil {
		motors, err := texts(v)
		if err != nil {
			return nil, err
		}
		if len(motors) > 0 {
			d.axes = motors
		}
	}
	d.fields = d.axes
	return &d, nil
}

// hintedFields are the fields of a stream that its devices hint at, or all of a device
// that does not.
func hintedFields(descriptor pyDict) ([]string, error) {
	objects, err := need[pyDict](descriptor, "object_keys")
	if err != nil {
		return nil, err
	}
	var all []string
	for _, object := range objects {
		fields, err := fieldsOf(descriptor, object.key)
		if err != nil {
			return nil, err
		}
		all = append(all, fields...)
	}
	return all, nil
}

func fieldsOf(descriptor pyDict, object string) ([]string, error) {
	if v, ok := descriptor.lookup("hints"); ok {
		hints, ok := v.(pyDict)
		if !ok {
			return nil, errValue
		}
		if v, ok = hints.lookup(object); ok {
			hint, ok := v.(pyDict)
			if !ok {
				return nil, errValue
			}
			if fields, ok := hint.lookup("fields"); ok {
				return texts(fields)
			}
		}
	}
	objects, err := need[pyDict](descriptor, "object_keys")
	if err != nil {
		return nil, err
	}
	fields, ok := objects.lookup(object)
	if !ok {
		return nil, errNoMember(object)
	}
	return texts(fields)
}
