package retry

// queue is a list of tickets, linked through them.
type queue struct {
	head, tail *Ticket
	length     int
}

func (q *queue) append(t *Ticket) { q.insert(t, nil) }

// insert puts t before at, or at the end if at is nil.
func (q *queue) insert(t, at *Ticket) {
	q.length++
	t.next = at
	if at != nil {
		t.prev, at.prev = at.prev, t
	} else {
		t.prev, q.tail = q.tail, t
	}
	if t.prev != nil {
		t.prev.next = t
	} else {
		q.head = t
	}
}

// remove takes t out, if it is in.
func (q *queue) remove(t *Ticket) {
	if t.prev == nil && q.head != t {
		return
	}
	q.length--
	if t.prev != nil {
		t.prev.next = t.next
	} else {
		q.head = t.next
	}
	if t.next != nil {
		t.next.prev = t.prev
	} else {
		q.tail = t.prev
	}
	t.prev, t.next = nil, nil
}
