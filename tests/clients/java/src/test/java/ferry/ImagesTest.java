package ferry;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.github.dockerjava.api.command.InspectImageResponse;
import com.github.dockerjava.api.command.LoadImageCallback;
import com.github.dockerjava.api.exception.DockerClientException;
import com.github.dockerjava.api.exception.NotFoundException;
import com.github.dockerjava.api.model.Image;
import com.github.dockerjava.api.model.PruneType;
import com.github.dockerjava.transport.DockerHttpClient;
import java.io.ByteArrayInputStream;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;

/** Images by every way that needs no registry. */
class ImagesTest extends Suite {
    private static InspectImageResponse image(String name) {
        return docker.inspectImageCmd(name).exec();
    }

    private void removeLater(String name) {
        later(() -> docker.removeImageCmd(name).withForce(true).exec());
    }

    /** A new image of a container that has made a file, under a name of its own. */
    private String commit(String what, String value) {
        String id = run(shell("echo " + what + " > /made"), 0);
        String repository = name("image");
        String image = docker.commitCmd(id)
                .withRepository(repository)
                .withTag("v1")
                .withAuthor("somebody")
                .withCmd("cat", "/made")
                .withEnv("ADDED=1")
                .withLabels(Map.of(LABEL, value))
                .exec();
        removeLater(repository + ":v1");
        assertEquals(image(repository + ":v1").getId(), image);
        return repository + ":v1";
    }

    @Test
    void commitMakesAnImage() {
        String name = commit("committed", "commit");
        var seen = image(name);
        assertEquals(List.of(name), seen.getRepoTags());
        assertEquals("somebody", seen.getAuthor());
        assertEquals(List.of("cat", "/made"), List.of(seen.getConfig().getCmd()));
        assertTrue(List.of(seen.getConfig().getEnv()).contains("ADDED=1"));
        assertEquals("commit", seen.getConfig().getLabels().get(LABEL));
        assertEquals("linux", seen.getOs());
        assertEquals(image(IMAGE).getRootFS().getLayers().size() + 1, seen.getRootFS().getLayers().size());
        assertEquals("committed\n", output(docker.createContainerCmd(name)));
    }

    @Test
    void historyListsLayers() {
        String name = commit("history", "history");
        var entries = docker.imageHistoryCmd(name).exec();
        assertEquals(docker.imageHistoryCmd(IMAGE).exec().size() + 1, entries.size());
        assertEquals(image(name).getId(), entries.get(0).getId());
        assertEquals(List.of(name), entries.get(0).getTags());
        assertTrue(entries.get(0).getSize() > 0);
    }

    @Test
    void tagAndUntag() {
        String repository = name("tag");
        removeLater(repository + ":one");
        docker.tagImageCmd(IMAGE, repository, "one").exec();
        docker.tagImageCmd(IMAGE, repository, "two").exec();
        assertEquals(image(IMAGE).getId(), image(repository + ":one").getId());
        assertTrue(image(IMAGE).getRepoTags().containsAll(List.of(repository + ":one", repository + ":two")));
        docker.removeImageCmd(repository + ":two").exec();
        assertThrows(NotFoundException.class, () -> image(repository + ":two"));
        assertEquals(image(IMAGE).getId(), image(repository + ":one").getId());
    }

    @Test
    void importedFileSystemRuns() throws Exception {
        String id = create(container("true"));
        String repository = name("import");
        removeLater(repository + ":v2");
        byte[] root;
        try (InputStream export = docker.exportContainerCmd(id).exec()) {
            root = export.readAllBytes();
        }
        try (var answer = importing(repository, root)) {
            assertEquals(200, answer.getStatusCode());
            String text = new String(answer.getBody().readAllBytes(), StandardCharsets.UTF_8);
            assertTrue(text.contains(image(repository + ":v2").getId()), text);
        }
        assertEquals(1, image(repository + ":v2").getRootFS().getLayers().size());
        assertEquals(
                "imported\n", output(docker.createContainerCmd(repository + ":v2").withCmd("echo", "imported")));
    }

    /** The library's own command for this sends an empty object instead of the archive. */
    private static DockerHttpClient.Response importing(String repository, byte[] archive) {
        return transport.execute(DockerHttpClient.Request.builder()
                .method(DockerHttpClient.Request.Method.POST)
                .path("/images/create?fromSrc=-&repo=" + repository + "&tag=v2")
                .putHeader("Content-Type", "application/x-tar")
                .body(new ByteArrayInputStream(archive))
                .build());
    }

    @Test
    void truncatedImportIsRefused() throws Exception {
        String repository = name("import");
        String id = create(container("true"));
        try (InputStream export = docker.exportContainerCmd(id).exec();
                var answer = importing(repository, export.readNBytes(100_000))) {
            assertEquals(500, answer.getStatusCode());
            String text = new String(answer.getBody().readAllBytes(), StandardCharsets.UTF_8);
            assertTrue(text.contains("unexpected EOF"), text);
        }
        assertThrows(NotFoundException.class, () -> image(repository + ":v2"));
    }

    @Test
    void savedImageLoadsAgain() throws Exception {
        String name = commit("saved", "save");
        String id = image(name).getId();
        byte[] archive;
        try (InputStream saved = docker.saveImageCmd(name).exec()) {
            archive = saved.readAllBytes();
        }
        Map<String, String> files = ArchivesTest.read(new ByteArrayInputStream(archive));
        assertTrue(files.get("manifest.json").contains("\"" + name + "\""), files.get("manifest.json"));
        assertTrue(files.containsKey("index.json") && files.containsKey("oci-layout"));

        docker.removeImageCmd(name).withForce(true).exec();
        assertThrows(NotFoundException.class, () -> image(id));
        String message = docker.loadImageAsyncCmd(new ByteArrayInputStream(archive)).exec(new LoadImageCallback()).awaitMessage();
        assertTrue(message.contains(name), message);
        assertEquals(id, image(name).getId());
        assertEquals("saved\n", output(docker.createContainerCmd(name)));
    }

    @Test
    void severalImagesInOneArchive() throws Exception {
        String first = commit("first", "several");
        String second = commit("second", "several");
        try (InputStream saved = docker.saveImagesCmd()
                .withImage(first.split(":")[0], "v1")
                .withImage(second.split(":")[0], "v1")
                .exec()) {
            String manifest = ArchivesTest.read(saved).get("manifest.json");
            assertTrue(manifest.contains(first) && manifest.contains(second), manifest);
        }
    }

    @Test
    void listFilters() {
        String value = name("list");
        String name = commit("listed", value);
        String id = image(name).getId();
        assertEquals(List.of(id), ids(docker.listImagesCmd().withLabelFilter(LABEL + "=" + value).exec()));
        assertEquals(List.of(id), ids(docker.listImagesCmd().withReferenceFilter(name).exec()));
        assertEquals(List.of(id), ids(docker.listImagesCmd().withReferenceFilter(name.split(":")[0] + ":*").exec()));
        assertEquals(List.of(), ids(docker.listImagesCmd().withReferenceFilter(name).withDanglingFilter(true).exec()));
        Image entry = docker.listImagesCmd().withReferenceFilter(name).exec().get(0);
        assertEquals(List.of(name), Arrays.asList(entry.getRepoTags()));
        assertEquals(value, entry.getLabels().get(LABEL));
        assertEquals(image(name).getSize(), entry.getSize());
        assertTrue(entry.getCreated() > 1_600_000_000L);
    }

    private static List<String> ids(List<Image> images) {
        return images.stream().map(Image::getId).collect(Collectors.toList());
    }

    @Test
    void imageInUseStays() {
        String name = commit("used", "use");
        String id = image(name).getId();
        String container = start(docker.createContainerCmd(name).withCmd("sleep", "60"));
        refused(409, "unable to delete", () -> docker.removeImageCmd(id).exec());
        assertEquals(id, inspect(container).getImageId());
        docker.removeContainerCmd(container).withForce(true).exec();
        docker.removeImageCmd(id).exec();
        assertThrows(NotFoundException.class, () -> image(id));
    }

    @Test
    void pruneRemovesDanglingImages() {
        String value = name("prune");
        String id = run(shell("echo pruned > /made"), 0);
        String image = docker.commitCmd(id).withLabels(Map.of(LABEL, value)).exec();
        assertEquals(List.of(image), ids(docker.listImagesCmd().withDanglingFilter(true).withLabelFilter(LABEL + "=" + value).exec()));
        String kept = commit("kept", value);
        var pruned = docker.pruneCmd(PruneType.IMAGES)
                .withDangling(true)
                .withLabelFilter(LABEL + "=" + value)
                .exec();
        assertTrue(pruned.getSpaceReclaimed() > 0);
        assertThrows(NotFoundException.class, () -> image(image));
        assertNotEquals(image, image(kept).getId());
    }

    @Test
    void whatIsNoImageIsNotLoaded() {
        var nonsense = new ByteArrayInputStream("no archive".getBytes());
        // The answer has begun when the archive turns out to be none.
        var error = assertThrows(
                DockerClientException.class,
                () -> docker.loadImageAsyncCmd(nonsense).exec(new LoadImageCallback()).awaitMessage());
        assertTrue(error.getMessage().contains("unexpected EOF"), error.getMessage());
    }
}
