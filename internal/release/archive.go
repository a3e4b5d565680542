package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
	"time"
)

// writeArchive writes a tar.gz of the binary and the files, all in one folder, all of that time
// and root's.
func writeArchive(path, folder, binary string, files []string, at time.Time) (err error) {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	zip, err := gzip.NewWriterLevel(file, gzip.BestCompression) // its header stays empty: no name, no time
	if err != nil {
		return err
	}
	w := tar.NewWriter(zip)
	if err := add(w, binary, folder+"/scanlogin", 0o755, at); err != nil {
		return err
	}
	for _, name := range files {
		if err := add(w, filepath.FromSlash(name), folder+"/"+name, 0o644, at); err != nil {
			return err
		}
	}
	return errors.Join(w.Close(), zip.Close())
}

func add(w *tar.Writer, path, name string, mode int64, at time.Time) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head := &tar.Header{
		Typeflag: tar.TypeReg, Name: name, Size: int64(len(b)), Mode: mode, ModTime: at,
		Uname: "root", Gname: "root", Format: tar.FormatPAX,
	}
	if err := w.WriteHeader(head); err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}
