package ferry;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.junit.platform.engine.TestExecutionResult;
import org.junit.platform.engine.support.descriptor.ClassSource;
import org.junit.platform.engine.support.descriptor.MethodSource;
import org.junit.platform.launcher.TestExecutionListener;
import org.junit.platform.launcher.TestIdentifier;

/**
 * Writes one line of JSON for each test to the file that FERRY_TEST_RESULTS names: name, outcome, reason
 * and seconds. Found by JUnit through META-INF/services.
 */
public final class Results implements TestExecutionListener {
    private final String file = System.getenv("FERRY_TEST_RESULTS");
    private final Map<String, Long> started = new ConcurrentHashMap<>();

    @Override
    public void executionStarted(TestIdentifier test) {
        started.put(test.getUniqueId(), System.nanoTime());
    }

    @Override
    public void executionSkipped(TestIdentifier test, String reason) {
        if (test.isTest()) {
            write(test, "skipped", reason);
        }
    }

    @Override
    public void executionFinished(TestIdentifier test, TestExecutionResult result) {
        String reason = result.getThrowable().map(Throwable::toString).orElse(null);
        switch (result.getStatus()) {
            case SUCCESSFUL -> {
                if (test.isTest()) {
                    write(test, "passed", null);
                }
            }
            case ABORTED -> write(test, "skipped", result.getThrowable().map(Throwable::getMessage).orElse(null));
            // A class that cannot be set up fails too, not only what is in it.
            case FAILED -> write(test, "failed", reason);
        }
    }

    private void write(TestIdentifier test, String outcome, String reason) {
        String name = test.getSource()
                .map(source -> {
                    if (source instanceof MethodSource method) {
                        return area(method.getJavaClass()) + "::" + method.getMethodName();
                    }
                    return source instanceof ClassSource type ? area(type.getJavaClass()) : test.getDisplayName();
                })
                .orElse(test.getDisplayName());
        long nanos = System.nanoTime() - started.getOrDefault(test.getUniqueId(), System.nanoTime());
        System.out.printf("%-8s %s%s%n", outcome, name, reason == null ? "" : ": " + reason.lines().findFirst().orElse(""));
        if (file == null) {
            return;
        }
        String line = String.format(
                java.util.Locale.ROOT,
                "{\"name\":%s,\"outcome\":\"%s\",\"reason\":%s,\"seconds\":%.3f}%n",
                quote(name), outcome, reason == null ? "null" : quote(reason.strip()), nanos / 1e9);
        try {
            Files.writeString(Path.of(file), line, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    private static String area(Class<?> type) {
        return type.getSimpleName().replaceFirst("Test$", "").toLowerCase(java.util.Locale.ROOT);
    }

    private static String quote(String text) {
        StringBuilder quoted = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            switch (c) {
                case '"' -> quoted.append("\\\"");
                case '\\' -> quoted.append("\\\\");
                default -> quoted.append(c < ' ' ? String.format("\\u%04x", (int) c) : String.valueOf(c));
            }
        }
        return quoted.append('"').toString();
    }
}
