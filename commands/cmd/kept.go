package cmd

// Kept gives what a command keeps under a key for the whole session, made at
// the first call. Unlike what Cached keeps it does not belong to the target:
// it outlives a reload.
func Kept[T any](s *Session, key any, create func() (T, error)) (T, error) {
	if v, ok := s.kept[key].(T); ok {
		return v, nil
	}
	v, err := create()
	if err != nil {
		return v, err
	}
	if s.kept == nil {
		s.kept = map[any]any{}
	}
	s.kept[key] = v
	return v, nil
}
