import java.nio.file.Path;
import java.util.concurrent.TimeUnit;
import org.elasticsearch.bootstrap.BootstrapInfo;
import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.env.Environment;
import org.elasticsearch.node.Node;

/**
 * Runs one Elasticsearch node inside this process until it is asked to stop.
 *
 * <p>The only argument is the node's home: {@code config/} holds its settings, {@code modules/} its HTTP layer.
 */
public final class SingleNode {
    private static final long CLOSE_SECS_MAX = 10;

    private SingleNode() {}

    public static void main(String[] arguments) throws Exception {
        Path home = Path.of(arguments[0]).toAbsolutePath();
        Path config = home.resolve("config");
        LogConfigurator.registerErrorListener();
        LogConfigurator.configureESLogging();
        BootstrapInfo.init();

        Settings settings = Settings.builder()
                .loadFromPath(config.resolve("elasticsearch.yml"))
                .put("path.home", home.toString())
                .build();
        Environment environment = new Environment(settings, config);
        LogConfigurator.configure(environment, true);

        Node node = new Node(environment);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> close(node), "close-node"));
        node.start();
        // The node's own threads are daemons: this one keeps the process alive until the shutdown hook has run.
        Thread.currentThread().join();
    }

    private static void close(Node node) {
        try {
            node.close();
            node.awaitClose(CLOSE_SECS_MAX, TimeUnit.SECONDS);
        } catch (Exception failure) {
            failure.printStackTrace();
        }
    }
}
