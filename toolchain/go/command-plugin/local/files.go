package local

import (
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/gobwas/glob"
	"github.com/pulumi/pulumi-go-provider/infer/types"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// collectFiles sets the assets and the archive that the inputs ask for and keeps those they do not ask for.
func collectFiles(dir string, in *Inputs, out *Outputs) error {
	if in.AssetPaths != nil {
		files, err := matchFiles(dir, *in.AssetPaths)
		if err != nil {
			return err
		}
		assets := make(map[string]types.AssetOrArchive, len(files))
		for name, file := range files {
			assets[name] = types.AssetOrArchive{Asset: file}
		}
		out.Assets = &assets
	}
	if in.ArchivePaths != nil {
		files, err := matchFiles(dir, *in.ArchivePaths)
		if err != nil {
			return err
		}
		members := make(map[string]any, len(files))
		for name, file := range files {
			members[name] = file
		}
		if out.Archive, err = resource.NewAssetArchive(members); err != nil {
			return err
		}
	}
	return nil
}

type fileRule struct {
	pattern glob.Glob
	exclude bool
}

// matchFiles returns the files below dir for which the last matching rule is not an exclude rule.
func matchFiles(dir string, globs []string) (map[string]*resource.Asset, error) {
	rules := make([]fileRule, 0, len(globs))
	for _, text := range globs {
		text, exclude := strings.CutPrefix(text, "!")
		pattern, err := glob.Compile(text, '/')
		if err != nil {
			return nil, err
		}
		rules = append(rules, fileRule{pattern, exclude})
	}

	files := map[string]*resource.Asset{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		if !included(name, rules) {
			return nil
		}
		files[name], err = resource.NewPathAsset(path.Join(dir, name))
		return err
	})
	return files, err
}

func included(name string, rules []fileRule) bool {
	in := false
	for _, rule := range rules {
		if rule.pattern.Match(name) {
			in = !rule.exclude
		}
	}
	return in
}
