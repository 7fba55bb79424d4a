package clients

import (
	"strings"
	"testing"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

func TestImageNames(t *testing.T) {
	begin(t)
	name := unique()
	must(api.ImageTag(ctx, client.ImageTagOptions{Source: image, Target: name + ":one"}))(t)
	list := must(api.ImageList(ctx, client.ImageListOptions{Filters: client.Filters{}.Add("reference", name+":*")}))(t).Items
	equal(t, len(list), 1)
	found := must(api.ImageInspect(ctx, name+":one"))(t)
	equal(t, found.ID, list[0].ID)
	equal(t, found.Os, "linux")
	if len(must(api.ImageHistory(ctx, name+":one"))(t).Items) == 0 {
		t.Fatal("no history")
	}
	removed := must(api.ImageRemove(ctx, name+":one", client.ImageRemoveOptions{}))(t).Items
	equal(t, removed[0].Untagged, name+":one")
	_, err := api.ImageInspect(ctx, name+":one")
	refused(t, err, cerrdefs.IsNotFound, "No such image")
}

func TestCommitExportImport(t *testing.T) {
	begin(t)
	name := unique()
	id := run(t, client.ContainerCreateOptions{}, "sh", "-c", "echo kept > /kept")
	wait(t, id)
	must(api.ContainerCommit(ctx, id, client.ContainerCommitOptions{Reference: name + ":one", Changes: []string{"ENV A=b"}}))(t)
	t.Cleanup(func() { _, _ = api.ImageRemove(ctx, name+":one", client.ImageRemoveOptions{Force: true}) })
	equal(t, strings.Contains(strings.Join(must(api.ImageInspect(ctx, name+":one"))(t).Config.Env, " "), "A=b"), true)
	exported := must(api.ContainerExport(ctx, id, client.ContainerExportOptions{}))(t)
	imported := must(api.ImageImport(ctx, client.ImageImportSource{Source: exported, SourceName: "-"}, name+":two", client.ImageImportOptions{}))(t)
	drain(t, imported)
	t.Cleanup(func() { _, _ = api.ImageRemove(ctx, name+":two", client.ImageRemoveOptions{Force: true}) })
	reader := run(t, client.ContainerCreateOptions{Config: &container.Config{Image: name + ":two"}}, "cat", "/kept")
	equal(t, wait(t, reader), 0)
}

func TestSaveAndLoad(t *testing.T) {
	begin(t)
	name := unique()
	must(api.ImageTag(ctx, client.ImageTagOptions{Source: image, Target: name + ":one"}))(t)
	saved := drain(t, must(api.ImageSave(ctx, []string{name + ":one"}))(t))
	must(api.ImageRemove(ctx, name+":one", client.ImageRemoveOptions{}))(t)
	loaded := string(drain(t, must(api.ImageLoad(ctx, strings.NewReader(string(saved))))(t)))
	equal(t, strings.Contains(loaded, "Loaded image: "+name+":one"), true)
	must(api.ImageRemove(ctx, name+":one", client.ImageRemoveOptions{}))(t)
}

func TestImagePrune(t *testing.T) {
	begin(t)
	report := must(api.ImagePrune(ctx, client.ImagePruneOptions{Filters: client.Filters{}.Add("label", "suite="+unique())}))(t).Report
	equal(t, len(report.ImagesDeleted), 0)
}

func TestRegistriesThatAreNotThere(t *testing.T) {
	begin(t)
	_, err := api.ImagePull(ctx, "127.0.0.1:1/nothing:1", client.ImagePullOptions{})
	refused(t, err, nil, "connection refused")
	_, err = api.DistributionInspect(ctx, "127.0.0.1:1/nothing:1", client.DistributionInspectOptions{})
	refused(t, err, nil, "connection refused")
	_, err = api.RegistryLogin(ctx, client.RegistryLoginOptions{Username: "u", Password: "p", ServerAddress: "127.0.0.1:1"})
	refused(t, err, nil, "connection refused")
	_, err = api.ImageSearch(ctx, "127.0.0.1:1/nothing", client.ImageSearchOptions{Limit: 5})
	refused(t, err, cerrdefs.IsInvalidArgument, "connection refused")
}

func TestVolumes(t *testing.T) {
	begin(t)
	name := unique()
	label := client.Filters{}.Add("label", "suite="+name)
	must(api.VolumeCreate(ctx, client.VolumeCreateOptions{Name: name, Labels: map[string]string{"suite": name}}))(t)
	options := client.ContainerCreateOptions{HostConfig: &container.HostConfig{Binds: []string{name + ":/data"}}}
	writer := run(t, options, "sh", "-c", "echo kept > /data/file")
	equal(t, wait(t, writer), 0)
	reader := run(t, client.ContainerCreateOptions{HostConfig: &container.HostConfig{Binds: []string{name + ":/data:ro"}}}, "cat", "/data/file")
	equal(t, wait(t, reader), 0)
	equal(t, inspect(t, reader).Mounts[0].RW, false)
	equal(t, must(api.VolumeInspect(ctx, name, client.VolumeInspectOptions{}))(t).Volume.Driver, "local")
	equal(t, len(must(api.VolumeList(ctx, client.VolumeListOptions{Filters: label}))(t).Items), 1)
	_, err := api.VolumeRemove(ctx, name, client.VolumeRemoveOptions{})
	refused(t, err, cerrdefs.IsConflict, "volume is in use")
	for _, id := range []string{writer, reader} {
		must(api.ContainerRemove(ctx, id, client.ContainerRemoveOptions{}))(t)
	}
	report := must(api.VolumePrune(ctx, client.VolumePruneOptions{All: true, Filters: label}))(t).Report
	equal(t, strings.Join(report.VolumesDeleted, " "), name)
	_, err = api.VolumeInspect(ctx, name, client.VolumeInspectOptions{})
	refused(t, err, cerrdefs.IsNotFound, "no such volume")
}

func TestDefaultNetworks(t *testing.T) {
	begin(t)
	names := map[string]bool{}
	for _, n := range must(api.NetworkList(ctx, client.NetworkListOptions{}))(t).Items {
		names[n.Name] = true
	}
	equal(t, names["bridge"] && names["host"] && names["none"], true)
	id := run(t, client.ContainerCreateOptions{}, "sleep", "600")
	bridge := must(api.NetworkInspect(ctx, "bridge", client.NetworkInspectOptions{}))(t).Network
	if _, there := bridge.Containers[id]; !there {
		t.Fatal("the container is not in its network")
	}
	equal(t, inspect(t, id).NetworkSettings.Networks["bridge"].IPAddress.IsValid(), true)
	_, err := api.NetworkInspect(ctx, "no-such-network", client.NetworkInspectOptions{})
	refused(t, err, cerrdefs.IsNotFound, "network no-such-network not found")
	_, err = api.NetworkRemove(ctx, "bridge", client.NetworkRemoveOptions{})
	refused(t, err, cerrdefs.IsPermissionDenied, "is a pre-defined network and cannot be removed")
}

func TestMadeNetworks(t *testing.T) {
	begin(t)
	name := unique()
	_, err := api.NetworkCreate(ctx, name, client.NetworkCreateOptions{})
	if cerrdefs.IsNotImplemented(err) {
		skip(t, "the engine has no networks besides the default ones")
	}
	check(t, err)
	must(api.NetworkRemove(ctx, name, client.NetworkRemoveOptions{}))(t)
}

func TestBuildingImages(t *testing.T) {
	begin(t)
	name := unique()
	built, err := api.ImageBuild(ctx, archive(t, "Dockerfile", "FROM busybox\nRUN true\n"), client.ImageBuildOptions{Tags: []string{name}})
	if cerrdefs.IsNotImplemented(err) {
		skip(t, "the engine does not build images yet")
	}
	check(t, err)
	drain(t, built.Body)
	must(api.ImageRemove(ctx, name, client.ImageRemoveOptions{}))(t)
}

func TestSystem(t *testing.T) {
	begin(t)
	ping := must(api.Ping(ctx, client.PingOptions{}))(t)
	equal(t, ping.OSType, "linux")
	version := must(api.ServerVersion(ctx, client.ServerVersionOptions{}))(t)
	equal(t, version.APIVersion, ping.APIVersion)
	info := must(api.Info(ctx, client.InfoOptions{}))(t).Info
	equal(t, info.OSType, "linux")
	usage := must(api.DiskUsage(ctx, client.DiskUsageOptions{Images: true, Containers: true, Volumes: true, Verbose: true}))(t)
	if usage.Images.TotalCount == 0 || len(usage.Images.Items) == 0 {
		t.Fatalf("%+v", usage)
	}
}

func TestWhatIsOff(t *testing.T) {
	begin(t)
	_, err := api.ServiceList(ctx, client.ServiceListOptions{})
	refused(t, err, cerrdefs.IsUnavailable, "This node is not a swarm manager")
	_, err = api.SwarmInspect(ctx, client.SwarmInspectOptions{})
	refused(t, err, cerrdefs.IsUnavailable, "This node is not a swarm manager")
	equal(t, len(must(api.PluginList(ctx, client.PluginListOptions{}))(t).Items), 0)
	_, err = api.PluginInspect(ctx, "nothing", client.PluginInspectOptions{})
	refused(t, err, cerrdefs.IsNotFound, `plugin "nothing" not found`)
}
