package ferry;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.github.dockerjava.api.async.ResultCallback;
import com.github.dockerjava.api.command.EventsCmd;
import com.github.dockerjava.api.model.Event;
import com.github.dockerjava.api.model.EventType;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

/** What the engine tells about what happens. */
class EventsTest extends Suite {
    private static final class Collected extends ResultCallback.Adapter<Event> {
        final List<Event> events = new CopyOnWriteArrayList<>();

        @Override
        public void onNext(Event event) {
            events.add(event);
        }
    }

    /** What happened from the given second until now. */
    private static List<Event> past(long since, EventsCmd command) throws InterruptedException {
        long until = Instant.now().getEpochSecond() + 1;
        Collected collected = command.withSince(Long.toString(since)).withUntil(Long.toString(until)).exec(new Collected());
        assertTrue(collected.awaitCompletion(20, TimeUnit.SECONDS), "the stream of the past did not end");
        return collected.events;
    }

    @Test
    void lifeOfAContainer() throws Exception {
        long since = Instant.now().getEpochSecond();
        String name = name("life");
        String id = run(shell("exit 6").withName(name).withLabels(Map.of(LABEL, "life")), 6);
        docker.removeContainerCmd(id).exec();
        List<Event> events = past(since, docker.eventsCmd().withContainerFilter(id).withEventTypeFilter(EventType.CONTAINER));
        assertEquals(List.of("create", "start", "die", "destroy"), events.stream().map(Event::getAction).toList());
        Event die = events.get(2);
        assertEquals(EventType.CONTAINER, die.getType());
        assertEquals(id, die.getActor().getId());
        assertEquals("6", die.getActor().getAttributes().get("exitCode"));
        assertEquals(name, die.getActor().getAttributes().get("name"));
        assertEquals(IMAGE, die.getActor().getAttributes().get("image"));
        assertEquals("life", die.getActor().getAttributes().get(LABEL));
        assertTrue(die.getTimeNano() >= since * 1_000_000_000L);
        assertEquals(die.getTimeNano() / 1_000_000_000L, die.getTime());
    }

    @Test
    void filters() throws Exception {
        long since = Instant.now().getEpochSecond();
        String value = name("filter");
        String first = run(container("true").withLabels(Map.of(LABEL, value)), 0);
        run(container("true"), 0);
        List<Event> events = past(since, docker.eventsCmd().withLabelFilter(LABEL + "=" + value).withEventFilter("die", "start"));
        assertEquals(List.of("start", "die"), events.stream().map(Event::getAction).toList());
        assertTrue(events.stream().allMatch(event -> event.getActor().getId().equals(first)));
    }

    @Test
    void eventsComeAsTheyHappen() throws Exception {
        Collected live = docker.eventsCmd().withEventTypeFilter(EventType.VOLUME).exec(new Collected());
        live.awaitStarted(10, TimeUnit.SECONDS);
        String name = name("live");
        eventually("the creation of a volume is told", () -> {
            // The engine may not be listening yet when the client has started.
            docker.createVolumeCmd().withName(name).exec();
            boolean told = live.events.stream().anyMatch(event -> event.getActor().getId().equals(name));
            if (!told) {
                docker.removeVolumeCmd(name).exec();
            }
            return told;
        });
        later(() -> docker.removeVolumeCmd(name).exec());
        Event event = live.events.stream().filter(e -> e.getActor().getId().equals(name)).findFirst().orElseThrow();
        assertEquals("create", event.getAction());
        assertEquals("local", event.getActor().getAttributes().get("driver"));
        live.close();
    }

    @Test
    void imagesAndExecs() throws Exception {
        long since = Instant.now().getEpochSecond();
        String repository = name("event");
        docker.tagImageCmd(IMAGE, repository, "t").exec();
        docker.removeImageCmd(repository + ":t").exec();
        List<String> actions = past(since, docker.eventsCmd().withEventTypeFilter(EventType.IMAGE)).stream()
                .filter(event -> String.valueOf(event.getActor().getAttributes().get("name")).contains(repository)
                        || event.getAction().equals("untag"))
                .map(Event::getAction)
                .toList();
        assertTrue(actions.containsAll(List.of("tag", "untag")), actions.toString());

        String id = start(container("sleep", "60"));
        String exec = docker.execCreateCmd(id).withCmd("true").withAttachStdout(true).exec().getId();
        docker.execStartCmd(exec).exec(new Output()).ended();
        eventually("the end of the exec is told", () -> {
            try {
                return past(since, docker.eventsCmd().withContainerFilter(id)).stream()
                        .map(Event::getAction)
                        .toList()
                        .containsAll(List.of("exec_create: true ", "exec_start: true ", "exec_die"));
            } catch (InterruptedException error) {
                throw new AssertionError(error);
            }
        });
    }
}
