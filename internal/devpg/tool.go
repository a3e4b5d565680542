package devpg

import "path/filepath"

// Tool is the path of a program that comes with the server, such as pgbench.
func (s *Server) Tool(name string) string { return filepath.Join(s.bin, name) }
