package sim_test

// broken is what the server says of a body that is not JSON.
func broken(pos, msg string) string {
	return `{"detail":[{"type":"json_invalid","loc":["body",` + pos + `],"msg":"JSON decode error","input":{},"ctx":{"error":"` + msg + `"}}]}`
}

// answers of the real server that were not recorded.
var answers = []struct {
	request, body string
	status        int
	want          string
}{
	{"POST /tasks", `{"a":1,}`, 422, broken("7", "Expecting property name enclosed in double quotes")},
	{"POST /tasks", `{"a" 1}`, 422, broken("5", "Expecting ':' delimiter")},
	{"POST /tasks", `[1 2]`, 422, broken("3", "Expecting ',' delimiter")},
	{"POST /tasks", `{"a":1} x`, 422, broken("8", "Extra data")},
	{"POST /tasks", `"abc`, 422, broken("0", "Unterminated string starting at")},
	{"POST /tasks", "{\"a\":\"\t\"}", 422, broken("6", "Invalid control character at")},
	{"POST /tasks", `{"a":"\x"}`, 422, broken("6", `Invalid \\escape`)},
	{"POST /tasks", `{"a":"\u12"}`, 422, broken("7", `Invalid \\uXXXX escape`)},
	{"POST /tasks", `nul`, 422, broken("0", "Expecting value")},
	{"POST /tasks", `  `, 422, broken("2", "Expecting value")},
	{"POST /tasks", `-`, 422, broken("0", "Expecting value")},
	{"POST /tasks", `1.`, 422, broken("1", "Extra data")},
	{"POST /tasks", request("nap", `{"seconds":"1.5"}`), 201, `{"task_id":"ID"}`},
	{"POST /tasks", request("fail", `{"message":"\u00e9\ud83d\ude00"}`), 201, `{"task_id":"ID"}`},
	{"POST /tasks", request("append_line", `{"path":"a","line":"b","seconds":true,"last":null}`), 201, `{"task_id":"ID"}`},
	{"POST /tasks", request("append_line", `{"path":"a","line":"b","last":1}`), 422, `{"detail":[` +
		`{"loc":["body","params","last","str"],"msg":"Input should be a valid string","type":"string_type","input":1},` +
		`{"loc":["body","params","last","none"],"msg":"Input should be None","type":"none_required","input":1}]}`},
	{"POST /tasks", request("nap", `{"seconds":[1]}`), 422, `{"detail":[` +
		`{"loc":["body","params","seconds"],"msg":"Input should be a valid number","type":"float_type","input":[1]}]}`},
	{"POST /tasks", request("nap", `{"seconds":"x","b":1,"a":2.50}`), 422, `{"detail":[` +
		`{"loc":["body","params","seconds"],"msg":"Input should be a valid number, unable to parse string as a number","type":"float_parsing","input":"x"},` +
		`{"loc":["body","params","b"],"msg":"Extra inputs are not permitted","type":"extra_forbidden","input":1},` +
		`{"loc":["body","params","a"],"msg":"Extra inputs are not permitted","type":"extra_forbidden","input":2.5}]}`},
	{"POST /tasks", `{"name":"nap","params":{"seconds":1},"instrument_session":"a","name":"fail"}`, 422, `{"detail":[` +
		`{"loc":["body","params","message"],"msg":"Field required","type":"missing","input":{"seconds":1}}]}`},
	{"POST /tasks", request("count", `{"detectors":["nonesuch",1,"stage.x"]}`), 422, `{"detail":[` +
		`{"loc":["body","params","detectors",0,"function-after[valid(), str]"],"msg":"Value error, Device nonesuch cannot be found","type":"value_error","input":"nonesuch"},` +
		`{"loc":["body","params","detectors",0,"function-after[valid(), str]"],"msg":"Value error, Device nonesuch cannot be found","type":"value_error","input":"nonesuch"},` +
		`{"loc":["body","params","detectors",1,"function-after[valid(), str]"],"msg":"Input should be a valid string","type":"string_type","input":1},` +
		`{"loc":["body","params","detectors",1,"function-after[valid(), str]"],"msg":"Input should be a valid string","type":"string_type","input":1}]}`},
	{"POST /tasks", request("count", `{"detectors":"det"}`), 422, `{"detail":[` +
		`{"loc":["body","params","detectors"],"msg":"'str' instances are not allowed as a Sequence value","type":"sequence_str","input":"det"}]}`},
	{"POST /tasks", request("count", `{"detectors":null}`), 422, `{"detail":[` +
		`{"loc":["body","params","detectors"],"msg":"Input should be an instance of Sequence","type":"is_instance_of","input":null}]}`},
	{"POST /tasks", request("count", `{"detectors":["det"],"num":"x","delay":["y",1],"metadata":1}`), 422, `{"detail":[` +
		`{"loc":["body","params","num"],"msg":"Input should be a valid integer, unable to parse string as an integer","type":"int_parsing","input":"x"},` +
		`{"loc":["body","params","delay","float"],"msg":"Input should be a valid number","type":"float_type","input":["y",1]},` +
		`{"loc":["body","params","delay","json-or-python[json=list[float],python=chain[is-instance[Sequence],function-wrap[sequence_validator()]]]",0],"msg":"Input should be a valid number, unable to parse string as a number","type":"float_parsing","input":"y"},` +
		`{"loc":["body","params","metadata","dict[str,any]"],"msg":"Input should be a valid dictionary","type":"dict_type","input":1},` +
		`{"loc":["body","params","metadata","none"],"msg":"Input should be None","type":"none_required","input":1}]}`},
	{"POST /tasks", request("moves", `{"x":1,"y":1,"motor_x":"stage"}`), 422, `{"detail":[` +
		`{"loc":["body","params","motor_x"],"msg":"Value error, Device stage (ophyd_async.sim._stage.SimStage) is not of type bluesky.protocols.Movable[float]","type":"value_error","input":"stage"}]}`},
	{"POST /tasks", request("echo", `{"number":1,"text":"a","mode":1,"values":{},"either":1.5,"table":1,"point":1,"readables":["nonesuch"]}`), 422, `{"detail":[` +
		`{"loc":["body","params","mode"],"msg":"Input should be 'fast' or 'slow'","type":"literal_error","input":1},` +
		`{"loc":["body","params","values","list[float]"],"msg":"Input should be a valid list","type":"list_type","input":{}},` +
		`{"loc":["body","params","values","none"],"msg":"Input should be None","type":"none_required","input":{}},` +
		`{"loc":["body","params","either","int"],"msg":"Input should be a valid integer, got a number with a fractional part","type":"int_from_float","input":1.5},` +
		`{"loc":["body","params","either","str"],"msg":"Input should be a valid string","type":"string_type","input":1.5},` +
		`{"loc":["body","params","either","list[int]"],"msg":"Input should be a valid list","type":"list_type","input":1.5},` +
		`{"loc":["body","params","table","dict[str,int]"],"msg":"Input should be a valid dictionary","type":"dict_type","input":1},` +
		`{"loc":["body","params","table","none"],"msg":"Input should be None","type":"none_required","input":1},` +
		`{"loc":["body","params","point","Point"],"msg":"Input should be a valid dictionary or instance of Point","type":"model_type","input":1},` +
		`{"loc":["body","params","point","none"],"msg":"Input should be None","type":"none_required","input":1},` +
		`{"loc":["body","params","readables","list[function-after[valid(), str]]",0],"msg":"Value error, Device nonesuch cannot be found","type":"value_error","input":"nonesuch"},` +
		`{"loc":["body","params","readables","none"],"msg":"Input should be None","type":"none_required","input":["nonesuch"]}]}`},
	{"PUT /worker/state", `{"new_state":"PAUSED","defer":null}`, 422, `{"detail":[` +
		`{"type":"bool_type","loc":["body","defer"],"msg":"Input should be a valid boolean","input":null}]}`},
	{"PUT /worker/state", `{"new_state":"PAUSED","defer":"yes"}`, 400, `{"detail":"Cannot transition from IDLE to PAUSED"}`},
	{"PUT /worker/state", `{"new_state":"PAUSED","new_state":"IDLE","defer":1.0,"reason":null}`, 400, `{"detail":"Cannot transition from IDLE to IDLE"}`},
	{"PUT /worker/state", `{"new_state":"paused","defer":"x","reason":[],"b":1}`, 422, `{"detail":[` +
		`{"type":"enum","loc":["body","new_state"],"msg":"Input should be 'IDLE', 'RUNNING', 'PAUSING', 'PAUSED', 'HALTING', 'STOPPING', 'ABORTING', 'SUSPENDING', 'PANICKED' or 'UNKNOWN'","input":"paused","ctx":{"expected":"'IDLE', 'RUNNING', 'PAUSING', 'PAUSED', 'HALTING', 'STOPPING', 'ABORTING', 'SUSPENDING', 'PANICKED' or 'UNKNOWN'"}},` +
		`{"type":"bool_parsing","loc":["body","defer"],"msg":"Input should be a valid boolean, unable to interpret input","input":"x"},` +
		`{"type":"string_type","loc":["body","reason","str"],"msg":"Input should be a valid string","input":[]},` +
		`{"type":"none_required","loc":["body","reason","none"],"msg":"Input should be None","input":[]},` +
		`{"type":"extra_forbidden","loc":["body","b"],"msg":"Extra inputs are not permitted","input":1}]}`},
	{"PUT /worker/state", `null`, 422, `{"detail":[{"type":"model_attributes_type","loc":["body"],"msg":"Input should be a valid dictionary or object to extract fields from","input":null}]}`},
	{"PUT /worker/state", ``, 422, `{"detail":[{"type":"missing","loc":["body"],"msg":"Field required","input":null}]}`},
	{"PUT /worker/state", `{`, 422, broken("1", "Expecting property name enclosed in double quotes")},
	{"PUT /api/v1/worker/state", `{"new_state":"STOPPING"}`, 400, `{"detail":"Cannot transition from IDLE to STOPPING"}`},
	{"OPTIONS /worker/state", ``, 405, `{"detail":"Method Not Allowed"}`},
	{"PUT /worker/state/", ``, 307, ``},
	{"GET /api/v1/logout", ``, 205, ``},
	{"GET /python_environment?source=", ``, 422, `{"detail":[{"type":"enum","loc":["query","source"],"msg":"Input should be 'pypi' or 'scratch'","input":"","ctx":{"expected":"'pypi' or 'scratch'"}}]}`},
	{"GET /api/v1/python_environment?source=pypi&source=scratch", ``, 200, `{"installed_packages":[],"scratch_enabled":false}`},
}
