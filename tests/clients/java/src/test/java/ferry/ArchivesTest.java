package ferry;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.TreeMap;
import org.apache.commons.compress.archivers.tar.TarArchiveEntry;
import org.apache.commons.compress.archivers.tar.TarArchiveInputStream;
import org.apache.commons.compress.archivers.tar.TarArchiveOutputStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Files copied into containers and out of them, and whole containers exported. */
class ArchivesTest extends Suite {
    /** The names in an archive with the contents of regular files; a link shows where it leads. */
    static Map<String, String> read(InputStream archive) throws IOException {
        Map<String, String> files = new TreeMap<>();
        try (var tar = new TarArchiveInputStream(archive)) {
            for (TarArchiveEntry entry = tar.getNextEntry(); entry != null; entry = tar.getNextEntry()) {
                String content = new String(tar.readAllBytes(), StandardCharsets.UTF_8);
                files.put(entry.getName(), entry.isSymbolicLink() ? "-> " + entry.getLinkName() : content);
            }
        }
        return files;
    }

    /** An archive of one file. */
    static byte[] tar(String name, String content, int mode, int owner) throws IOException {
        var bytes = new ByteArrayOutputStream();
        try (var tar = new TarArchiveOutputStream(bytes)) {
            byte[] data = content.getBytes(StandardCharsets.UTF_8);
            var entry = new TarArchiveEntry(name);
            entry.setSize(data.length);
            entry.setMode(mode);
            entry.setUserId(owner);
            entry.setGroupId(owner);
            tar.putArchiveEntry(entry);
            tar.write(data);
            tar.closeArchiveEntry();
        }
        return bytes.toByteArray();
    }

    @Test
    void outOfAStoppedContainer() throws Exception {
        String id = run(shell("mkdir -p /d/e; echo one > /d/one; echo two > /d/e/two; ln -s one /d/link"), 0);
        assertEquals(
                Map.of("d/", "", "d/one", "one\n", "d/e/", "", "d/e/two", "two\n", "d/link", "-> one"),
                read(docker.copyArchiveFromContainerCmd(id, "/d").exec()));
        assertEquals(Map.of("two", "two\n"), read(docker.copyArchiveFromContainerCmd(id, "/d/e/two").exec()));
    }

    @Test
    void outOfARunningContainer() throws Exception {
        String id = start(shell("mount -t tmpfs none /mnt 2>/dev/null; echo seen > /file; exec sleep 60"));
        eventually("the file is there", () -> docker.containerDiffCmd(id).exec().stream()
                .anyMatch(change -> change.getPath().equals("/file")));
        assertEquals(Map.of("file", "seen\n"), read(docker.copyArchiveFromContainerCmd(id, "/file").exec()));
    }

    @Test
    void intoAContainerThatHasNotStarted() throws Exception {
        String id = create(shell("cat /etc/given; stat -c '%a %u' /etc/given"));
        docker.copyArchiveToContainerCmd(id)
                .withRemotePath("/etc")
                .withTarInputStream(new ByteArrayInputStream(tar("given", "by the client\n", 0640, 33)))
                .exec();
        docker.startContainerCmd(id).exec();
        assertEquals(0, wait(id));
        assertEquals("by the client\n640 33\n", logs(id).out());
    }

    @Test
    void intoARunningContainer() throws Exception {
        String id = start(shell("while ! test -e /tmp/late; do sleep 0.1; done; cat /tmp/late"));
        docker.copyArchiveToContainerCmd(id)
                .withRemotePath("/tmp")
                .withTarInputStream(new ByteArrayInputStream(tar("late", "arrived\n", 0644, 0)))
                .exec();
        assertEquals(0, wait(id));
        assertEquals("arrived\n", logs(id).out());
    }

    @Test
    void aFileOfTheClient(@TempDir Path dir) throws Exception {
        Path file = Files.writeString(dir.resolve("local.txt"), "local\n");
        String id = create(shell("cat /tmp/local.txt"));
        docker.copyArchiveToContainerCmd(id).withHostResource(file.toString()).withRemotePath("/tmp").exec();
        docker.startContainerCmd(id).exec();
        assertEquals(0, wait(id));
        assertEquals("local\n", logs(id).out());
    }

    @Test
    void whatIsNotThere() throws Exception {
        String id = create(container("true"));
        refused(404, "Could not find the file /nothing in container", () -> docker.copyArchiveFromContainerCmd(id, "/nothing")
                .exec()
                .close());
        refused(404, "Could not find the file /nothing in container", () -> docker.copyArchiveToContainerCmd(id)
                .withRemotePath("/nothing")
                .withTarInputStream(new ByteArrayInputStream(tar("x", "x", 0644, 0)))
                .exec());
        refused(404, "No such container: absent", () -> docker.copyArchiveFromContainerCmd("absent", "/")
                .exec()
                .close());
    }

    @Test
    void aFileIsNoDestination() throws Exception {
        String id = create(container("true"));
        refused(400, "not a directory", () -> docker.copyArchiveToContainerCmd(id)
                .withRemotePath("/etc/passwd")
                .withTarInputStream(new ByteArrayInputStream(tar("x", "x", 0644, 0)))
                .exec());
    }

    @Test
    void exportHoldsEverything() throws Exception {
        String id = run(shell("echo made > /made; rm /etc/group"), 0);
        Map<String, String> files = read(docker.exportContainerCmd(id).exec());
        assertEquals("made\n", files.get("made"));
        assertTrue(files.containsKey("bin/busybox"));
        assertTrue(files.get("etc/passwd").startsWith("root:"));
        assertTrue(!files.containsKey("etc/group"));
    }
}
